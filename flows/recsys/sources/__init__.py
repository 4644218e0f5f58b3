"""Sources of raw events, by the name that config.toml gives them; registry.py lists them.

A source writes its tables as Parquet files with the columns of columns.py. Everything after it is the same for all sources.
"""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.sources import columns
    from recsys.sources.base import Access, Simulation
    from recsys.sources.events import Events
    from recsys.sources.files import UnreadableColumns
    from recsys.sources.registry import SOURCES, check_config, check_inputs, open_simulation, open_source

__getattr__ = lazy(__name__, __file__)
