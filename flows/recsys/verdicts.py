"""A verdict: what a check says. Evidence: the verdicts on one release, bound to what they were passed on."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from recsys import RecsysError

Severity = Literal["block", "warn"]


@dataclass(frozen=True)
class Verdict:
    """`value` was seen and held against `threshold`; `message` is one line that a person understands."""

    name: str
    value: float | int | str
    threshold: float | int | str
    severity: Severity
    passed: bool
    message: str

    @property
    def blocks(self) -> bool:
        return not self.passed and self.severity == "block"


@dataclass(frozen=True)
class Evidence:
    """Model evidence is bound to the model's id, data and list evidence to this run's features and the release's content."""

    model: str
    features: str
    content: str
    on_model: list[Verdict]
    on_data: list[Verdict]

    @property
    def verdicts(self) -> list[Verdict]:
        return [*self.on_data, *self.on_model]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Evidence":
        fields: dict[str, Any] = json.loads(data)
        for part in ("on_model", "on_data"):
            fields[part] = [Verdict(**verdict) for verdict in fields[part]]
        return cls(**fields)


def require(verdicts: Iterable[Verdict], stage: str) -> None:
    """Raises with every blocking verdict's own words; none at all is a failure too, for then no check ran."""
    verdicts = list(verdicts)
    if not verdicts:
        raise RecsysError(f"{stage}: no check has spoken; its step must have died in silence: run it again and read its log")
    if failed := [verdict for verdict in verdicts if verdict.blocks]:
        raise RecsysError(f"{stage}: " + "; ".join(f"[{verdict.name}] {verdict.message}" for verdict in failed))
