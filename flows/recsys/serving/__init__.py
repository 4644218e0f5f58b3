"""The service: reads releases, and nothing else."""
