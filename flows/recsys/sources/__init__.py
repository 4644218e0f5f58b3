"""Sources of raw events: a file a source, found by the name that config.toml gives it.

A source lands its tables as Parquet files with the columns of columns.py; everything after it is the same for all sources.
"""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.sources import columns
    from recsys.sources.base import Access, Simulation
    from recsys.sources.events import Events
    from recsys.sources.files import UnreadableColumns
    from recsys.sources.registry import SOURCES, check_config, open_simulation, open_source

__getattr__ = lazy(__name__, __file__)
