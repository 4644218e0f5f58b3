"""The library behind the flows. It imports no Metaflow and prints nothing."""


class RecsysError(Exception):
    """An error that a person can fix. The message gives what is wrong, the value seen and what to do; shown without a traceback."""
