"""Sources of raw events, by the name that config.toml calls them."""

from recsys import RecsysError
from recsys.settings import Dataset, check_parameters
from recsys.sources.base import Source
from recsys.sources.database import Database
from recsys.sources.events import Events
from recsys.sources.online_retail import OnlineRetail
from recsys.sources.shop import Shop

SOURCES: dict[str, type[Source]] = {"shop": Shop, "online_retail": OnlineRetail, "events": Events, "database": Database}


def open_source(dataset: Dataset, endpoint: str = "") -> Source:
    """The source of a dataset, ready to land. `endpoint`: address of an S3-compatible store; empty for AWS."""
    if dataset.source not in SOURCES:
        raise RecsysError(f'source "{dataset.source}" is not known; config.toml may name {", ".join(SOURCES)}')
    check_parameters(SOURCES[dataset.source], dataset.dials, "datasets.*.dials")
    source = SOURCES[dataset.source](**dataset.dials)
    source.configure(dataset, endpoint)
    return source
