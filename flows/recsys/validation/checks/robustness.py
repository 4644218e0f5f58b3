"""Scores the holdout again on harder data: only its last week, with a tenth of the events lost, and with a day missing."""

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
        window, baseline = windows[inputs.served_kind], inputs.robustness["popularity"][world][inputs.served_kind]
        if len(window.users) < limits.min_users:
            message = f"{world}: {len(window.users)} users have {inputs.settings.dataset.a_target}; {limits.min_users} are needed"
            yield CheckResult(f"robustness_{world}", len(window.users), limits.min_users, "warn", False, message)
            continue
        gain = compare([window], [baseline], inputs.metric, inputs.settings)
        message = f"{world}: {inputs.winner} minus popularity on the same data: {inputs.metric} {gain}"
        yield CheckResult(f"robustness_{world}_not_worse_than_popularity", gain.mean, 0.0, "block", gain.high >= 0, message)
        if unperturbed and len(window.users) == len(inputs.holdout(inputs.winner).users):
            loss = float(1 - window.scores[inputs.metric].mean() / unperturbed)
            message = f"{world}: {inputs.metric} falls by {loss:.1%}; a fall of up to {limits.max_loss:.0%} is accepted"
            yield CheckResult(f"robustness_{world}_loss", loss, limits.max_loss, "warn", loss <= limits.max_loss, message)
