"""The sources by name. To add one, add a line to SOURCES."""

from collections.abc import Mapping

from recsys import RecsysError
from recsys.settings import Dataset, Settings, check_parameters, schema_of
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
INPUTS = ("raw", "events", "items", "users")  # what a run may name: RAW=, EVENTS=, ITEMS= and USERS=


def open_source(dataset: Dataset, endpoint: str = "") -> Source:
    """Returns the configured source of a dataset. endpoint: address of an S3-compatible store; empty for AWS.

    Raises RecsysError if the source is not known or one of its settings is wrong.
    """
    _check(dataset, "datasets.*")
    source = SOURCES[dataset.source](**dataset.source_settings)
    source.configure(dataset, endpoint)
    return source


def open_simulation(dataset: Dataset) -> Simulation | None:
    """Returns the dataset's source if it simulates the target, so that its truth is known; else None."""
    source = open_source(dataset) if issubclass(SOURCES[dataset.source], Simulation) else None
    return source if isinstance(source, Simulation) and dataset.target == source.target else None


def check_config(settings: Settings) -> None:
    """Raises RecsysError if the source of the settings is not known or one of its own settings is wrong."""
    _check(settings.dataset, f"datasets.{settings.dataset_name}")


def check_inputs(source: str, inputs: Mapping[str, str], section: str) -> None:
    """Raises RecsysError if the source does not read the files that a run names.

    inputs: paths by the name of the source's setting, such as {"events": "events.csv"} for EVENTS=events.csv. section: name of the
    dataset.
    """
    if source not in SOURCES:
        return  # open_source says so
    known = schema_of(SOURCES[source]).get("properties", {})
    read = [f"{name.upper()}=" for name, kind in known.items() if name in INPUTS and kind.get("type") == "string"]
    for name, path in inputs.items():
        variable = name.upper()
        if f"{variable}=" in read:
            continue
        setting = f"datasets.{section}.source_settings.{name}"
        meaning = f": there, {name} is a number in config.toml, {setting}" if known.get(name, {}).get("type") == "integer" else ""
        advice = f"pass {' or '.join(read)} instead" if read else f"leave {variable} out"
        raise RecsysError(
            f'{variable} is "{path}", but dataset "{section}" (source "{source}") takes no {variable}={meaning}; {advice}, or name'
            " another DATASET: `make check-data EVENTS=path` proposes one for your own files"
        )


def _check(dataset: Dataset, section: str) -> None:
    if dataset.source not in SOURCES:
        raise RecsysError(f'config: {section}.source is "{dataset.source}"; it must be one of {", ".join(SOURCES)}')
    check_parameters(SOURCES[dataset.source], dataset.source_settings, f"{section}.source_settings")
