"""Cells that a spreadsheet would run as a formula: of CSV files (owasp.org/www-community/attacks/CSV_Injection)."""

import pyarrow as pa
import pyarrow.compute as pc

FORMULA, SAFE = r"^([=+\-@\t\r])", r"'\1"


def escape(column: pa.Array) -> pa.Array:
    """A text column in which a cell that starts like a formula has an apostrophe before it."""
    return pc.replace_substring_regex(column, FORMULA, SAFE)
