"""Checks, one family a file; each function returns verdicts."""
