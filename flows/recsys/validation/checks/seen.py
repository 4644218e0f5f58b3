"""Checks that the setting `exclude_seen` fits how often users return to the same items. Only warns: the setting is a decision."""

from collections.abc import Iterator

from pydantic import model_validator

from recsys.settings import Share, advise_exclude_seen, section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult


@section
class SeenLimits:
    few: Share
    many: Share

    @model_validator(mode="after")
    def _differ(self) -> "SeenLimits":
        if self.few > self.many:
            raise ValueError(f"few = {self.few:g} is above many = {self.many:g}; lower it")
        return self


SETTINGS: dict[str, str | tuple[str, str]] = {"exclude_seen": "few many dataset.exclude_seen"}


def check(inputs: CheckInput, limits: SeenLimits) -> Iterator[CheckResult]:
    dataset, share = inputs.settings.dataset, inputs.features.repeat_share()
    wanted = advise_exclude_seen(share, limits.few, limits.many)
    message = (
        f"{share:.1%} of the {dataset.target} events are on an item with {dataset.a_target} by the same user on an earlier day"
    )
    if wanted in (None, dataset.exclude_seen):
        message += f"; exclude_seen = {str(dataset.exclude_seen).lower()} fits"
    else:
        message += f"; consider exclude_seen = {str(wanted).lower()} in config.toml"
    limit = limits.many if dataset.exclude_seen else limits.few
    yield CheckResult("exclude_seen", share, limit, "warn", wanted in (None, dataset.exclude_seen), message)
