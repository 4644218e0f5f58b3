"""Sources of raw events, by the name that config.toml calls them."""

from recsys import RecsysError
from recsys.settings import Dataset, Settings, check_parameters
from recsys.sources.base import Simulation, Source
from recsys.sources.database import Database
from recsys.sources.events import Events
from recsys.sources.online_retail import OnlineRetail
from recsys.sources.shop import Shop

SOURCES: dict[str, type[Source]] = {
    "shop": Shop,
    "online_retail": OnlineRetail,
    "events": Events,
    "database": Database,
}


def open_source(dataset: Dataset, endpoint: str = "") -> Source:
    """The source of a dataset, ready to land. `endpoint`: address of an S3-compatible store; empty for AWS."""
    _check(dataset, "datasets.*")
    source = SOURCES[dataset.source](**dataset.source_settings)
    source.configure(dataset, endpoint)
    return source


def open_simulation(dataset: Dataset) -> Simulation | None:
    """The dataset's source if it is a simulation of the target, whose truth is known; none otherwise."""
    source = open_source(dataset) if issubclass(SOURCES[dataset.source], Simulation) else None
    return source if isinstance(source, Simulation) and dataset.target == source.target else None


def check_config(settings: Settings) -> None:
    """Raises on a source that is not known, and on a wrong value of its own settings."""
    _check(settings.dataset, f"datasets.{settings.dataset_name}")


def _check(dataset: Dataset, section: str) -> None:
    if dataset.source not in SOURCES:
        raise RecsysError(f'config: {section}.source is "{dataset.source}"; it must be one of {", ".join(SOURCES)}')
    check_parameters(SOURCES[dataset.source], dataset.source_settings, f"{section}.source_settings")
