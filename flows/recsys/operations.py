"""Operations: how flows run where nobody looks. Sections of config.toml that change no byte of a release: none keeps them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recsys import RecsysError
from recsys.config import OPERATIONS, at_least, build

DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FIELD = re.compile(r"\*|\d+([-,]\d+)*|\*/\d+")
WEEKDAY = re.compile(rf"\*|({'|'.join(DAYS)})([-,]({'|'.join(DAYS)}))*")


@dataclass(frozen=True)
class Recommend:
    users_per_shard: int

    def __post_init__(self) -> None:
        at_least(1, recommend=vars(self))


@dataclass(frozen=True)
class Monitor:
    """Limits of what is asked of releases after they went live."""

    days: int
    min_users: int
    min_kept: float
    max_release_age_days: int
    max_without_list: float

    def __post_init__(self) -> None:
        at_least(1, monitor={"days": self.days, "min_users": self.min_users})


@dataclass(frozen=True)
class Alerts:
    to: str
    repeat_hours: float
    timeout_seconds: float

    def __post_init__(self) -> None:
        plain = self.to.startswith("http://") and not self.to.startswith(("http://127.0.0.1:", "http://localhost:"))
        if not self.to or plain:
            raise RecsysError(f'config: alerts.to is "{self.to}"; set it to "stdout", a file path or an https:// webhook')


@dataclass(frozen=True)
class Unattended:
    """What scheduled flows are given besides their schedule."""

    project: str
    retries: int
    minutes_between_retries: int
    timeout_minutes: int

    def __post_init__(self) -> None:
        at_least(0, unattended={"retries": self.retries, "minutes_between_retries": self.minutes_between_retries})
        at_least(1, unattended={"timeout_minutes": self.timeout_minutes})


@dataclass(frozen=True)
class Resources:
    """Of a step's container: cores, and megabytes of memory."""

    cpu: int
    memory: int


@dataclass(frozen=True)
class Schedule:
    """Five fields as in crontab, in UTC: minute, hour, day of the month, month, day of the week by its name."""

    cron: str

    def __post_init__(self) -> None:
        fields = self.cron.split()
        found = len(fields) == 5 and all(map(FIELD.fullmatch, fields[:4])) and WEEKDAY.fullmatch(fields[4])
        if not found or (fields[2] != "*" and fields[4] != "*"):
            raise RecsysError(
                f'config: schedule.cron is "{self.cron}"; write five fields as in crontab, such as "0 3 * * SUN", with a day of'
                " the month or of the week, not both"
            )

    @property
    def eventbridge(self) -> str:
        """As AWS and Metaflow's @schedule write it: one of the two days is `?`, and a year follows."""
        minute, hour, day, month, weekday = self.cron.split()
        day, weekday = (day, "?") if weekday == "*" else ("?", weekday)
        return f"{minute} {hour} {day} {month} {weekday} *"

    @property
    def systemd(self) -> str:
        """As OnCalendar= of a timer."""
        minute, hour, day, month, weekday = (_systemd(field) for field in self.cron.split())
        days = "" if weekday == "*" else f"{weekday.title()} "
        return f"{days}*-{month}-{day} {hour}:{minute}:00 UTC"


def _systemd(field: str) -> str:
    """Crontab writes `*/5` and `1-5`, systemd `0/5` and `1..5`."""
    return field.replace("*/", "0/").replace("-", "..")


@dataclass(frozen=True)
class Operations:
    recommend: Recommend
    monitor: Monitor
    alerts: Alerts
    unattended: Unattended
    schedule: dict[str, Schedule]
    resources: dict[str, Resources]

    def resources_of(self, step: str) -> Resources:
        return self.resources.get(step, self.resources["default"])


def read(config: Mapping[str, Any]) -> Operations:
    """The sections of config.toml that a release does not depend on, checked."""
    values = {name: config.get(name, {}) for name in OPERATIONS}
    for name, kind in (("schedule", Schedule), ("resources", Resources)):
        values[name] = {part: build(kind, dials, f"{name}.{part}") for part, dials in values[name].items()}
    if "default" not in values["resources"]:
        raise RecsysError("config: [resources.default] is missing; it is what steps without a section get, add it")
    return build(Operations, values, "config")
