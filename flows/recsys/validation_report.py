"""A verdict: what a check says. Evidence: the verdicts on one release, bound to what they were passed on."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from recsys import RecsysError

Severity = Literal["block", "warn"]


@dataclass(frozen=True)
class Verdict:
    """A check's result: `value` was seen and held against `threshold`; `message` is one line that a person understands.

    setting: where config.toml sets the threshold; empty if it is fixed. suspect: what a failure speaks against, such as "data".
    expected: the expected change for which a failure only warns. advice: after a block, the commands to run next.
    validation/advice.py fills these in.
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


def grade(name: str, value: float, warn: float, block: float, words: str) -> Verdict:
    """A value held against two limits: above the first it warns, above the second it blocks."""
    value, far = float(value), not value <= block  # a value that is no number blocks
    message = f"{words}; above {warn:g} warns" + (f", above {block:g} blocks" if block < math.inf else "")
    return Verdict(name, value, block if far else warn, "block" if far else "warn", value <= warn, message)


@dataclass(frozen=True)
class Evidence:
    """Verdicts by family of checks. Those on the model are bound to its id, those on data and lists to this run's features and
    the release's content."""

    model: str
    features: str
    content: str
    on_model: dict[str, list[Verdict]]
    on_data: dict[str, list[Verdict]]

    @property
    def families(self) -> dict[str, list[Verdict]]:
        return self.on_data | self.on_model

    @property
    def verdicts(self) -> list[Verdict]:
        return [verdict for verdicts in self.families.values() for verdict in verdicts]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Evidence":
        fields: dict[str, Any] = json.loads(data)
        for part in ("on_model", "on_data"):
            fields[part] = {name: [Verdict(**verdict) for verdict in verdicts] for name, verdicts in fields[part].items()}
        return cls(**fields)

    @classmethod
    def read(cls, data: bytes | None) -> "Evidence | None":
        """None if there is none, or it was written in another form."""
        try:
            return cls.from_json(data) if data else None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


def require(verdicts: Mapping[str, list[Verdict]], families: Iterable[str], stage: str) -> None:
    """Raises with every blocking verdict's explanation and advice, or the families that should have spoken and did not."""
    if silent := [name for name in families if not verdicts.get(name)]:
        raise RecsysError(
            f"{stage}: no verdict of {', '.join(silent)}; a check that did not run or died in silence proves nothing: run it"
            " (`make audit` runs the costly ones) and read its log"
        )
    if failed := [verdict for found in verdicts.values() for verdict in found if verdict.blocks]:
        words = ". ".join(verdict.explanation for verdict in failed)
        advice = "".join(dict.fromkeys(f". {verdict.advice}" for verdict in failed if verdict.advice))
        raise RecsysError(f"{stage}: {words}. Nothing was published, and what is live has not changed{advice}")
