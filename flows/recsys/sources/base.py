"""Base class of the sources. To add one, write a subclass, its line in registry.py and its staging models in dbt."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.settings import Dataset
from recsys.validation_report import CheckResult


@dataclass(frozen=True)
class Access:
    """Access to a database, for the source that reads one.

    queries: folder of its SQL files. environment: has secrets, so it is never stored or logged."""

    queries: Path
    environment: Mapping[str, str] = field(repr=False)


class Source(ABC):
    """Lands raw data as Parquet: `<table>.parquet`, or a folder `<table>/` of Parquet files, for each table in `max_null_share`.

    The constructor takes the source_settings of config.toml and those of the run (RAW=, EVENTS=, ITEMS=, USERS=).
    """

    def configure(self, dataset: Dataset, endpoint: str) -> None:
        """Stores settings of the dataset, and the address of an S3-compatible store, where a source needs them."""
        for name, is_set in (("columns", dataset.columns), ("time_zone", dataset.time_zone != "UTC")):
            if is_set:
                raise RecsysError(f'config: {name} is set, but source "{dataset.source}" does not read it; remove it')

    max_null_share: ClassVar[dict[str, dict[str, float]]]
    """For each table its required columns, with the largest normal share of missing values."""

    def prepare(self, access: Access) -> None:  # noqa: B027 - most sources need nothing more
        """Checks and stores what the source needs of the machine. Raises RecsysError if something is missing."""

    @abstractmethod
    def land(self, folder: Path, until: date | None = None) -> list[CheckResult]:
        """Writes the raw tables to an empty folder, and returns check results on the data.

        until: the day after the last one to land, for sources that can go back in time; the others ignore it.
        """


class Simulation(Source):
    """A source that simulates its events, so the expected future events are known."""

    target: ClassVar[str] = "purchase"
    """The type of the events that `truth` expects."""

    @abstractmethod
    def truth(self, user_ids: NDArray[np.str_], item_ids: NDArray[np.str_], cutoff: date, horizon_days: int) -> NDArray[np.float64]:
        """Returns the expected target events of each user on each item in the days from the cutoff: (users, items) floats, 0 for
        unknown ids."""
