"""Features: raw snapshot in, feature snapshot out, and its tables as NumPy arrays.

The only package that runs dbt and opens DuckDB. A state holds what is known at a cutoff: nothing that happened later.
"""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.features import formulas, warehouse
    from recsys.features.daily_profile import ESTABLISHED, STEP, DailyProfile
    from recsys.features.snapshot import Features
    from recsys.features.state import Attribute, State, Table, TrainingWindow, matrix, matrix_of_file, places
    from recsys.features.unreadable import DATE
    from recsys.features.warehouse import Quarantine, connect, escaped, identifier, literal, read_quarantine

__getattr__ = lazy(__name__, __file__)
