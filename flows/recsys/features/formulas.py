"""Escapes CSV cells that a spreadsheet would run as a formula (owasp.org/www-community/attacks/CSV_Injection)."""

import pyarrow as pa
import pyarrow.compute as pc

FORMULA, SAFE = r"^([=+\-@\t\r])", r"'\1"


def escape(column: pa.Array) -> pa.Array:
    """Returns a text column with an apostrophe before each cell that starts like a formula."""
    return pc.replace_substring_regex(column, FORMULA, SAFE)
