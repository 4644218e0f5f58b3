"""Rankers, by the name that [recommenders.two_stage] of config.toml gives them. To add one, add it to RANKERS."""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from recsys.recommenders.rankers.base import NothingLearned, Ranker, usable
from recsys.recommenders.rankers.hist_gradient_boosting import HistGradientBoosting
from recsys.recommenders.rankers.lightgbm import LightGBM
from recsys.recommenders.rankers.logistic_regression import LogisticRegression

__all__ = ["RANKERS", "HistGradientBoosting", "NothingLearned", "Ranker", "RankerName", "create", "usable"]

RANKERS: dict[str, type[Ranker]] = {kind.name: kind for kind in (HistGradientBoosting, LogisticRegression, LightGBM)}


def _check_name(name: str) -> str:
    if name not in RANKERS:
        raise ValueError(f"it is not a ranker; choose one of {', '.join(RANKERS)}")
    if problem := RANKERS[name].missing():
        raise ValueError(problem)
    return name


RankerName = Annotated[str, AfterValidator(_check_name), Field(json_schema_extra={"enum": list(RANKERS)})]


def create(name: str, parameters: Mapping[str, Any]) -> Ranker:
    """Returns an unfitted ranker. Parameters that its constructor does not have are ignored."""
    kind = RANKERS[name]
    return kind(**{key: parameters[key] for key in inspect.signature(kind).parameters if key in parameters})
