"""Checks. Each file has its thresholds and `check(input, limits)`, which yields check results."""
