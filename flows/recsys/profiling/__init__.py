"""Profiling: describes an export, and proposes its section of config.toml."""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.profiling.profile import check
    from recsys.profiling.proposal import propose_name

__getattr__ = lazy(__name__, __file__)
