"""Features: builds a feature snapshot from a raw snapshot with dbt, and reads its tables as NumPy arrays.

Only this package runs dbt. A state holds what is known at a cutoff, and nothing that happened later.
"""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.features import formulas, warehouse
    from recsys.features.daily_profile import ESTABLISHED, STEP, DailyProfile
    from recsys.features.snapshot import Features
    from recsys.features.state import Attribute, State, Table, TrainingWindow, matrix, matrix_of_file, places
    from recsys.features.unreadable import DATE, rewrite_number
    from recsys.features.warehouse import Quarantine, connect, escaped, identifier, literal, read_quarantine

__getattr__ = lazy(__name__, __file__)
