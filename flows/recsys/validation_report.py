"""A check result: what a check says. Validation report: the check results on one release, bound to what they were passed on."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from recsys import RecsysError

Severity = Literal["block", "warn"]


@dataclass(frozen=True)
class CheckResult:
    """A check's result: `value` was seen and held against `threshold`; `message` is one line that a person understands.

    setting: where config.toml sets the threshold; empty if it is fixed. suspect: what a failure speaks against, such as "data".
    expected: the expected change for which a failure only warns. advice: after a block, the commands to run next.
    validation/advice.py fills these in. interval: low and high of a value that is a mean over users.
    """

    name: str
    value: float | int | str
    threshold: float | int | str
    severity: Severity
    passed: bool
    message: str
    setting: str = ""
    suspect: str = ""
    expected: str = ""
    advice: str = ""
    interval: Sequence[float] = ()

    @property
    def blocks(self) -> bool:
        return not self.passed and self.severity == "block"

    @property
    def explanation(self) -> str:
        """The check, its message, value and threshold, where the threshold is set, and what is suspect."""
        value, limit = (f"{one:.4g}" if isinstance(one, float) else str(one) for one in (self.value, self.threshold))
        numbers = "" if isinstance(self.threshold, str) else f"; value {value}, limit {limit}"
        setting = f"; setting {self.setting}" if self.setting else ""
        suspect = f"; suspect: the {self.suspect}" if self.suspect else ""
        return f"[{self.name}] {self.message}{numbers}{setting}{suspect}"


def grade(name: str, value: float, warn: float, block: float, words: str) -> CheckResult:
    """A value held against two limits: above the first it warns, above the second it blocks."""
    value, far = float(value), not value <= block  # a value that is no number blocks
    message = f"{words}; above {warn:g} warns" + (f", above {block:g} blocks" if block < math.inf else "")
    return CheckResult(name, value, block if far else warn, "block" if far else "warn", value <= warn, message)


@dataclass(frozen=True)
class Measurement:
    """A metric of a recommender's lists on the holdout, over all users, or over a `group` of them or of items. value: mean, low and
    high of its 95% interval; gain: the same of the difference, user by user, to `simple`, the best simple recommender."""

    list_kind: str
    recommender: str
    metric: str
    users: int
    value: Sequence[float]
    gain: Sequence[float] | None = None
    simple: str = ""
    group: str = ""


@dataclass(frozen=True)
class ValidationReport:
    """Check results by checks. Those on the model are bound to its id, those on data and lists to this run's features and
    the release's content.

    measurements: of the training of the model. importance: share of each feature in its scores. compared_with: the release
    that was live when it was trained, whose lists the check `champion` compares; empty at a first release.
    """

    model: str
    features: str
    content: str
    on_model: dict[str, list[CheckResult]]
    on_data: dict[str, list[CheckResult]]
    measurements: Sequence[Measurement] = ()
    importance: Mapping[str, float] = field(default_factory=dict)
    compared_with: str = ""

    @property
    def checks(self) -> dict[str, list[CheckResult]]:
        return self.on_data | self.on_model

    @property
    def results(self) -> list[CheckResult]:
        return [result for results in self.checks.values() for result in results]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "ValidationReport":
        fields: dict[str, Any] = json.loads(data)
        for part in ("on_model", "on_data"):
            fields[part] = {name: [CheckResult(**result) for result in results] for name, results in fields[part].items()}
        fields["measurements"] = [Measurement(**one) for one in fields.get("measurements", ())]
        return cls(**fields)

    @classmethod
    def read(cls, data: bytes | None) -> "ValidationReport | None":
        """None if there is none, or it was written in another form."""
        try:
            return cls.from_json(data) if data else None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


def require(results: Mapping[str, list[CheckResult]], checks: Iterable[str], stage: str) -> None:
    """Raises with every blocking check result's explanation and advice, or the checks that should have spoken and did not."""
    if silent := [name for name in checks if not results.get(name)]:
        raise RecsysError(
            f"{stage}: no check result of {', '.join(silent)}; a check that did not run or died in silence proves nothing: run it"
            " (`make audit` runs the costly ones) and read its log"
        )
    if failed := [result for found in results.values() for result in found if result.blocks]:
        words = ". ".join(result.explanation for result in failed)
        advice = "".join(dict.fromkeys(f". {result.advice}" for result in failed if result.advice))
        raise RecsysError(f"{stage}: {words}. Nothing was published, and what is live has not changed{advice}")
