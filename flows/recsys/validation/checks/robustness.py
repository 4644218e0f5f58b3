"""Stress: the holdout again, in its last week alone, with one event in ten lost, and with a day missing from the data."""

from collections.abc import Iterator

from recsys.evaluation import compare
from recsys.settings import Count, Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult


@section
class RobustnessLimits:
    min_users: Count
    max_loss: Share


SETTINGS: dict[str, str | tuple[str, str]] = {
    "robustness_*_not_worse_than_popularity": "",
    "robustness_*_loss": "max_loss",
    "robustness_*": "min_users",
}


def check(inputs: CheckInput, limits: RobustnessLimits) -> Iterator[CheckResult]:
    unperturbed = inputs.holdout(inputs.winner).scores[inputs.metric].mean()
    for world, windows in inputs.robustness[inputs.winner].items():
        window, baseline = windows[inputs.repeat], inputs.robustness["popularity"][world][inputs.repeat]
        if len(window.users) < limits.min_users:
            who = f"{len(window.users)} users with {inputs.settings.dataset.a_target}"
            words = f"{world}: {who}, {limits.min_users} are needed for a figure that means something"
            yield CheckResult(f"robustness_{world}", len(window.users), limits.min_users, "warn", False, words)
            continue
        gain = compare([window], [baseline], inputs.metric, inputs.settings)
        words = f"{world}: {inputs.winner} against popularity in the same world: {inputs.metric} differs by {gain}"
        yield CheckResult(f"robustness_{world}_not_worse_than_popularity", gain.mean, 0.0, "block", gain.high >= 0, words)
        if unperturbed and len(window.users) == len(inputs.holdout(inputs.winner).users):
            loss = float(1 - window.scores[inputs.metric].mean() / unperturbed)
            words = f"{world}: {loss:.1%} of {inputs.metric} is lost; up to {limits.max_loss:.0%} is borne"
            yield CheckResult(f"robustness_{world}_loss", loss, limits.max_loss, "warn", loss <= limits.max_loss, words)
