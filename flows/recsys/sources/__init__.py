"""Sources of raw events, by the name that config.toml calls them."""

from typing import Any

from recsys import RecsysError
from recsys.settings import check_parameters
from recsys.sources.base import Source
from recsys.sources.events import Events
from recsys.sources.online_retail import OnlineRetail
from recsys.sources.shop import Shop

SOURCES: dict[str, type[Source]] = {"shop": Shop, "online_retail": OnlineRetail, "events": Events}


def open_source(name: str, dials: dict[str, Any]) -> Source:
    if name not in SOURCES:
        raise RecsysError(f'source "{name}" is not known; config.toml may name {", ".join(SOURCES)}')
    check_parameters(SOURCES[name], dials, "datasets.*.dials")
    return SOURCES[name](**dials)
