"""The web service. It answers from releases only and needs no training code, dbt, Metaflow or Great Expectations."""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.serving.app import Service
    from recsys.serving.impressions import export

__getattr__ = lazy(__name__, __file__)
