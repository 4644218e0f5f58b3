"""What a source of events must do. A new one is: a class here, a line in the registry, its staging models in dbt."""

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
    """What a database is read with besides its settings. The environment holds secrets: it is read and never kept."""

    queries: Path
    environment: Mapping[str, str] = field(repr=False)


class Source(ABC):
    """Lands raw data as Parquet: `<table>.parquet` or a folder `<table>/` of Parquet files for every table it declares.
    Its constructor takes the source settings of its section in config.toml and the run's own (RAW=, EVENTS=, ITEMS=, USERS=)."""

    def configure(self, dataset: Dataset, endpoint: str) -> None:
        """Takes settings that are not the source's own: those of its dataset, and the address of an S3-compatible store."""
        for name, is_set in (("columns", dataset.columns), ("time_zone", dataset.time_zone != "UTC")):
            if is_set:
                raise RecsysError(f'config: {name} is set, but source "{dataset.source}" does not read it; remove it')

    max_null_share: ClassVar[dict[str, dict[str, float]]]
    """Tables and the columns they must have, each with the largest share of missing values that is normal."""

    def prepare(self, access: Access) -> None:  # noqa: B027 - most sources need nothing more
        """Takes up what a source needs of the machine; raises RecsysError if anything is missing."""

    @abstractmethod
    def land(self, folder: Path, until: date | None = None) -> list[CheckResult]:
        """Fills an empty folder, and says what is odd about the data. `until` is the day after the last that is wanted, for
        sources that can go back in time; the others give all they have."""


class Simulation(Source):
    """A source that made its world up, and so knows what nobody else can."""

    target: ClassVar[str] = "purchase"
    """The type of the events that `truth` expects."""

    @abstractmethod
    def truth(self, user_ids: NDArray[np.str_], item_ids: NDArray[np.str_], cutoff: date, horizon_days: int) -> NDArray[np.float64]:
        """Expected target events of each item by each user in the days from the cutoff: (users, items), 0 for ids that are not of
        this world."""
