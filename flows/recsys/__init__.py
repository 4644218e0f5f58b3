"""The library behind the flows. It imports no Metaflow and prints nothing."""


class RecsysError(Exception):
    """Something a person must mend: what is wrong, the value seen, what to do. Shown without a traceback."""
