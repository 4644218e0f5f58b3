"""Settings of scheduled and deployed flows. They do not change a release, so its manifest does not record them."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, field_validator

from recsys import RecsysError
from recsys.settings.validation import Count, Days, Names, PositiveDays, Seconds, Share, build, section

SECTIONS = ("recommend", "monitor", "alerts", "unattended", "schedule", "resources")  # `read` reads them
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
NUMBERS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12))
WEBHOOK = re.compile(r"https://[\w.-]+|http://(127\.0\.0\.1|localhost):\d")
FIELD = re.compile(r"\*|\d+([-,]\d+)*|\*/\d+")
WEEKDAY = re.compile(rf"\*|({'|'.join(WEEKDAYS)})([-,]({'|'.join(WEEKDAYS)}))*")


@section
class RecommendSettings:
    users_per_shard: Count


@section
class MonitorSettings:
    """Limits of the checks that MonitorFlow runs on releases that went live."""

    days: PositiveDays
    min_users: Count
    min_kept: Annotated[float, Field(ge=0, le=10)]
    max_release_age_days: Days
    max_without_list: Share


@section
class AlertSettings:
    """to_env: name of an environment variable that replaces `to` in scheduled runs, because a webhook's address is a credential.
    secrets: names of secrets in AWS Secrets Manager that hold the variable. In containers, all steps get their keys.
    """

    to: str
    repeat_hours: Annotated[float, Field(ge=0, le=8_760)]
    timeout_seconds: Seconds
    to_env: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$", examples=['"ALERTS_URL"'])] = ""
    secrets: Names = Field(default_factory=list)

    @field_validator("to")
    @classmethod
    def _check_destination(cls, to: str) -> str:
        if not WEBHOOK.match(to) and (not to or to.endswith("/") or "://" in to):
            raise ValueError('set it to "stdout", a file path or an https:// webhook')
        return to

    def with_variable(self, environment: Mapping[str, str]) -> "AlertSettings":
        """With the webhook of the variable `to_env` as `to`. Raises RecsysError, without the variable's value, if it holds none."""
        if not self.to_env:
            return self
        to = environment.get(self.to_env, "").strip()
        if not WEBHOOK.match(to):
            fault = "does not hold an https:// webhook" if to else "is not set in the environment"
            raise RecsysError(f'config: alerts.to_env is {self.to_env}, which {fault}; set it to your webhook, or set to_env to ""')
        return replace(self, to=to)


@section
class UnattendedSettings:
    """Settings of scheduled runs, besides their schedule.

    secrets: names of secrets in AWS Secrets Manager. In containers, the steps that read a source get their keys as environment
        variables.
    """

    project: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=60, examples=['"reasonable_recs"'])]
    retries: Annotated[int, Field(ge=0, le=10)]
    minutes_between_retries: Annotated[int, Field(ge=0, le=1_440)]
    timeout_minutes: Annotated[int, Field(ge=1, le=14_400)]
    secrets: Names = Field(default_factory=list)


@section
class Resources:
    """Size of a step's container: CPU cores and megabytes of memory."""

    cpu: Annotated[int, Field(ge=1, le=192)]
    memory: Annotated[int, Field(ge=512, le=2_000_000)]


@section
class Schedule:
    """A schedule in UTC, as the five fields of a crontab: minute, hour, day of the month, month, and day of the week by name."""

    cron: str

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, cron: str) -> str:
        fields = cron.split()
        is_valid = len(fields) == 5 and all(map(FIELD.fullmatch, fields[:4])) and WEEKDAY.fullmatch(fields[4])
        if not is_valid or (fields[2] != "*" and fields[4] != "*"):
            raise ValueError(
                'write the five fields of a crontab, such as "0 3 * * SUN", with a day of the month or a day of the week, not both'
            )
        for field, (name, smallest, largest) in zip(fields, NUMBERS, strict=False):
            for first, last in re.findall(r"(\d+)-(\d+)", field):
                if int(first) > int(last):
                    raise ValueError(f"{first}-{last} runs backwards; write the lower number first: {last}-{first}")
            for number in map(int, re.findall(r"\d+", field)):
                if not max(smallest, 1 if "/" in field else 0) <= number <= largest:
                    raise ValueError(
                        f"its {name} is {number}; in the five fields of a crontab it must be from {smallest} to {largest}"
                    )
        return cron

    @property
    def eventbridge(self) -> str:
        """The schedule as AWS and Metaflow's @schedule write it: one of the two day fields is `?`, and a year follows."""
        minute, hour, day, month, weekday = self.cron.split()
        day, weekday = (day, "?") if weekday == "*" else ("?", weekday)
        return f"{minute} {hour} {day} {month} {weekday} *"

    @property
    def systemd(self) -> str:
        """The schedule as the OnCalendar= of a systemd timer."""
        # crontab's `*/5` and `1-5` are systemd's `0/5` and `1..5`
        minute, hour, day, month, weekday = self.cron.replace("*/", "0/").replace("-", "..").split()
        days = "" if weekday == "*" else f"{weekday.title()} "
        return f"{days}*-{month}-{day} {hour}:{minute}:00 UTC"


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


def read_operations(config: Mapping[str, Any]) -> Operations:
    """Builds the settings of scheduled and deployed flows from a parsed config.toml. Raises RecsysError naming a wrong key."""
    operations = build(Operations, {name: config.get(name, {}) for name in SECTIONS}, "")
    if "default" not in operations.resources:
        raise RecsysError("config: resources.default is missing; steps without a section use it, so add it")
    return operations


@section
class Cloud:
    """The cloud resources that `make deploy` uses."""

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
