"""Reporting: cards, the summary of a run, the report page and the ML Test Score, from what the store keeps."""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from reporting.cards import show_monitoring, show_release
    from reporting.proof import Sources
    from reporting.report import write
    from reporting.score import show
    from reporting.summary import TOLD, last_landing, latest_run, learned, place_of, refusal, settings_of, store_of

__getattr__ = lazy(__name__, __file__)
