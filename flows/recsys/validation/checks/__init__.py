"""The checks. Each module has a class of thresholds and a function `check(inputs, limits)` that yields check results."""
