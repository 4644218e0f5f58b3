"""Settings of deployed and scheduled flows: sections of config.toml that change no byte of a release, so none keeps them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from recsys import RecsysError
from recsys.settings.validation import Count, Days, Names, PositiveDays, Seconds, Share, build, section

SECTIONS = ("recommend", "monitor", "alerts", "unattended", "schedule", "resources")  # `read` reads them
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
NUMBERS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12))
FIELD = re.compile(r"\*|\d+([-,]\d+)*|\*/\d+")
WEEKDAY = re.compile(rf"\*|({'|'.join(DAYS)})([-,]({'|'.join(DAYS)}))*")


@section
class RecommendSettings:
    users_per_shard: Count


@section
class MonitorSettings:
    """Limits of what is asked of releases after they went live."""

    days: PositiveDays
    min_users: Count
    min_kept: Annotated[float, Field(ge=0, le=10)]
    max_release_age_days: Days
    max_without_list: Share


@section
class AlertSettings:
    to: str
    repeat_hours: Annotated[float, Field(ge=0, le=8_760)]
    timeout_seconds: Seconds

    @field_validator("to")
    @classmethod
    def _is_safe(cls, to: str) -> str:
        webhook = re.match(r"https://[\w.-]+|http://(127\.0\.0\.1|localhost):\d", to)
        if not webhook and (not to or to.endswith("/") or "://" in to):
            raise ValueError('set it to "stdout", a file path or an https:// webhook')
        return to


@section
class UnattendedSettings:
    """What scheduled flows are given besides their schedule.

    secrets: of AWS Secrets Manager; their keys become environment variables of the steps that read a source, in containers.
    """

    project: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=60, examples=['"reasonable_recs"'])]
    retries: Annotated[int, Field(ge=0, le=10)]
    minutes_between_retries: Annotated[int, Field(ge=0, le=1_440)]
    timeout_minutes: Annotated[int, Field(ge=1, le=14_400)]
    secrets: Names = Field(default_factory=list)


@section
class Resources:
    """Of a step's container: cores, and megabytes of memory."""

    cpu: Annotated[int, Field(ge=1, le=192)]
    memory: Annotated[int, Field(ge=512, le=2_000_000)]


@section
class Schedule:
    """Five fields as in crontab, in UTC: minute, hour, day of the month, month, day of the week by its name."""

    cron: str

    @field_validator("cron")
    @classmethod
    def _is_a_crontab(cls, cron: str) -> str:
        fields = cron.split()
        found = len(fields) == 5 and all(map(FIELD.fullmatch, fields[:4])) and WEEKDAY.fullmatch(fields[4])
        if not found or (fields[2] != "*" and fields[4] != "*"):
            raise ValueError(
                'write five fields as in crontab, such as "0 3 * * SUN", with a day of the month or of the week, not both'
            )
        for field, (name, least, most) in zip(fields, NUMBERS, strict=False):
            for first, last in re.findall(r"(\d+)-(\d+)", field):
                if int(first) > int(last):
                    raise ValueError(f"{first}-{last} runs backwards; in the five fields of a crontab the lower number comes first")
            for number in map(int, re.findall(r"\d+", field)):
                if not max(least, 1 if "/" in field else 0) <= number <= most:
                    raise ValueError(f"{number} is no {name} in the five fields of a crontab; write {least} to {most}")
        return cron

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


@section
class Operations:
    recommend: RecommendSettings
    monitor: MonitorSettings
    alerts: AlertSettings
    unattended: UnattendedSettings
    schedule: dict[str, Schedule]
    resources: dict[str, Resources]

    def resources_of(self, step: str) -> Resources:
        return self.resources.get(step, self.resources["default"])


def read(config: Mapping[str, Any]) -> Operations:
    """The sections of config.toml that a release does not depend on. Raises RecsysError naming the key that is wrong."""
    found = build(Operations, {name: config.get(name, {}) for name in SECTIONS}, "")
    if "default" not in found.resources:
        raise RecsysError("config: resources.default is missing; it is what steps without a section get, add it")
    return found


@section
class Cloud:
    """Where `make deploy` puts the flows."""

    bucket: str
    queue: str
    table: str
    task_role: str
    container_role: str
    workflow_role: str
    schedule_role: str
    image: str
    namespace: str
    service_account: str
