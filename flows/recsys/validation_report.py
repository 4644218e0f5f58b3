"""Check results, and the validation report: all check results on one release."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from recsys import RecsysError

Severity = Literal["block", "warn"]


@dataclass(frozen=True)
class CheckResult:
    """The result of a check, which compares `value` with `threshold`. message: one line for people.

    setting: key of the threshold in config.toml; "" if it is fixed. suspect: likely cause of a failure, such as "data".
    expected: the expected change because of which a failure only warns. advice: after a block, the commands to run next.
    validation/advice.py sets these four. interval: low and high of a value that is a mean over users. since: first day of a fault
    of the data, as YYYY-MM-DD; "" if it is not known.
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
    since: str = ""

    @property
    def blocks(self) -> bool:
        return not self.passed and self.severity == "block"

    @property
    def explanation(self) -> str:
        """One line with the check's name, message, value, threshold, setting and suspect."""
        value, limit = (f"{one:.4g}" if isinstance(one, float) else str(one) for one in (self.value, self.threshold))
        numbers = "" if isinstance(self.threshold, str) else f"; value {value}, limit {limit}"
        setting = f"; setting {self.setting}" if self.setting else ""
        suspect = f"; suspect: the {self.suspect}" if self.suspect else ""
        return f"[{self.name}] {self.message}{numbers}{setting}{suspect}"


def grade(name: str, value: float, warn: float, block: float, words: str) -> CheckResult:
    """Compares a value with two limits: above `warn` the result warns, above `block` it blocks. words: start of its message."""
    value, far = float(value), not value <= block  # NaN blocks
    message = f"{words}; above {warn:g} warns" + (f", above {block:g} blocks" if block < math.inf else "")
    return CheckResult(name, value, block if far else warn, "block" if far else "warn", value <= warn, message)


def none_of(name: str, faults: Sequence[str], words: str) -> CheckResult:
    """Blocks if there is a fault. The message is their number, `words`, and the faults."""
    message = f"{len(faults)} {words}; none may" + (f": {'; '.join(faults)}" if faults else "")
    return CheckResult(name, len(faults), 0, "block", not faults, message)


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
class SourceLimits:
    """What one candidate source of `two_stage` adds to the lists, as means over users.

    recall: share of a user's relevant items that the source proposes. only: share of them that it proposes and no other source
    does. gain: by how much NDCG@k falls without the candidates that no other source proposes; mean, low and high of its 95%
    interval.
    """

    recall: float
    only: float
    gain: Sequence[float]


@dataclass(frozen=True)
class Limits:
    """What limits lists of one kind that are made of candidates, on a horizon before the holdout. Each value is a mean over users
    with low and high of its 95% interval.

    ranked: NDCG@k of the candidates as they were ranked. perfect: NDCG@k if they were ranked perfectly. recall: share of the
    relevant items that are candidates. sources: by candidate source. importance: by feature, what NDCG@k loses if the values of the
    feature are permuted among the candidates, largest first.
    """

    cutoff: str
    users: int
    ranked: Sequence[float]
    perfect: Sequence[float]
    recall: Sequence[float]
    sources: Mapping[str, SourceLimits]
    importance: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class ValidationReport:
    """Check results by check.

    on_model: results on the model with id `model`. on_data: results on the feature snapshot with id `features`, and on the release
    files with hash `content`. measurements: metrics from the training of the model. limits: by kind of list, if it has candidates.
    compared_with: the release that was live when the model was trained and that the check `champion` compares; "" for a
    first release.
    """

    model: str
    features: str
    content: str
    on_model: dict[str, list[CheckResult]]
    on_data: dict[str, list[CheckResult]]
    measurements: Sequence[Measurement] = ()
    limits: Mapping[str, Limits] = field(default_factory=dict)
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
            fields[part] = {
                name: [CheckResult(**result | {"interval": tuple(result.get("interval", ()))}) for result in results]
                for name, results in fields[part].items()
            }
        fields["measurements"] = tuple(
            Measurement(**values | {"value": tuple(values["value"]), "gain": values["gain"] and tuple(values["gain"])})
            for values in fields.get("measurements", ())
        )
        fields["limits"] = {
            name: Limits(**values | {"sources": {source: SourceLimits(**found) for source, found in values["sources"].items()}})
            for name, values in fields.get("limits", {}).items()
        }
        return cls(**fields)

    @classmethod
    def read(cls, data: bytes | None) -> "ValidationReport | None":
        """Like `from_json`, but returns None for None and for a damaged report or one of another version."""
        try:
            return cls.from_json(data) if data else None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


def require(results: Mapping[str, list[CheckResult]], checks: Iterable[str], stage: str) -> None:
    """Raises RecsysError if one of the checks has no result, or if any result blocks. stage: what was checked, for the message."""
    if missing := [name for name in checks if not results.get(name)]:
        raise RecsysError(
            f"{stage}: no check result of {', '.join(missing)}, so the check did not run or was killed; run it again (`make audit`"
            " runs the costly ones) and read its log"
        )
    if failed := [result for group in results.values() for result in group if result.blocks]:
        explanations = ". ".join(result.explanation for result in failed)
        advice = "".join(dict.fromkeys(f". {result.advice}" for result in failed if result.advice))
        raise RecsysError(f"{stage}: {explanations}. Nothing was published, and the live release has not changed{advice}")
