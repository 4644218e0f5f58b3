"""Settings of a run: the sections of config.toml that a release depends on."""

import re
from datetime import date
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import Field, field_validator, model_validator

from recsys.settings.validation import Count, Day, Days, Names, PositiveDays, PositiveShare, Seconds, Seed, Share, Text, section

WEAKER = ("view", "cart")  # signals besides the target that features count
KNOWN_TYPES = (*WEAKER, "return", "ignore")

HOST = re.compile(r"\*|[\w-]+(\.[\w-]+)*|\[[0-9a-fA-F:.]+\]", re.ASCII)
UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
time_zones = cache(available_timezones)  # which reads a folder at each call


@section
class StoreSettings:
    """`endpoint`: address of an S3-compatible store, such as MinIO's; empty for AWS."""

    root: Text
    endpoint: Annotated[str, Field(pattern=r"^(https?://[^/\s]+/?)?$", examples=['"http://127.0.0.1:9000"'])] = ""

    @field_validator("root")
    @classmethod
    def _is_a_place(cls, root: str) -> str:
        if "://" in root and not re.match(r"s3://[^/\s]", root):
            raise ValueError("write the path of a directory, or s3://bucket/prefix")
        return root


@section
class WarehouseSettings:
    """What DuckDB may use; it spills to disk above `memory_limit`."""

    memory_limit: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?B)$", examples=['"4GB"'])]
    threads: Annotated[int, Field(ge=1, le=256)]

    @field_validator("memory_limit")
    @classmethod
    def _is_enough(cls, size: str) -> str:
        unit = size.lstrip("0123456789. ")
        if not 100e6 <= float(size.removesuffix(unit)) * UNITS[unit] <= 100e12:
            raise ValueError("it must be from 100MB to 100TB")
        return size


@section
class FeatureSettings:
    """attribute_values: distinct values of a text attribute that count on their own; the rarer ones count as `other`.
    max_attribute_leak: how well a numeric attribute without valid_from may tell later target events, given the earlier ones, from
        0 to 1; one that tells more is left out.
    """

    training_windows: Annotated[int, Field(ge=1, le=100)]
    history_cap: Count
    sample_users: Count
    attribute_values: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_attribute_leak: Share = 0.4


@section
class EvaluationSettings:
    k: Annotated[int, Field(ge=1, le=1_000)]
    selection_windows: Annotated[int, Field(ge=1, le=50)]
    bootstraps: Annotated[int, Field(ge=1, le=100_000)]

    @property
    def ks(self) -> list[int]:
        """Depths down to which lists are scored; `k` is the one that decides and that tables show."""
        return sorted({5, 10, 20, self.k})


@section
class ListSettings:
    length: Annotated[int, Field(ge=1, le=1_000)]
    alternatives: Names


@section
class RuleSettings:
    """What may be listed, whatever a recommender thinks of it; rules.py applies it. Days of 0 turn a rule off."""

    blocked: Names
    blocked_categories: Names
    min_age_days: Days
    max_age_days: Days
    max_days_unsold: Days
    max_category_share: PositiveShare
    static: Names

    @model_validator(mode="after")
    def _leave_something(self) -> "RuleSettings":
        if 0 < self.max_age_days < self.min_age_days:
            raise ValueError(
                f"max_age_days = {self.max_age_days} is below min_age_days = {self.min_age_days}, so nothing could be listed;"
                " raise it, or set it to 0"
            )
        return self


@section
class ServeSettings:
    """`allowed_hosts`: names in the Host header under which clients may call the service, without a port; "*" for any."""

    host: Text
    port: Annotated[int, Field(ge=1, le=65_535)]
    poll_seconds: Seconds
    max_lag_seconds: Seconds
    demo: bool
    impressions: bool
    flush_seconds: Seconds
    canary_answers: Count
    canary_failures: Share
    allowed_hosts: Annotated[Names, Field(min_length=1)] = Field(default_factory=lambda: ["localhost", "127.0.0.1", "[::1]"])

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, host: str) -> str:
        if host == "*" or not (HOST.fullmatch(host) or re.fullmatch(r"[0-9a-fA-F:]+", host)):
            raise ValueError('it is no address or name; write one such as "127.0.0.1", "::1" or "0.0.0.0"')
        return host

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not HOST.fullmatch(host):
                raise ValueError(
                    f'"{host}" is no name or address without scheme and port; write one such as "recs.example.com", "10.0.0.7" or'
                    ' "[::1]", or "*" for any'
                )
        return hosts


@section
class ValidationSettings:
    audit: bool
    seeds: Annotated[int, Field(ge=2, le=20)]
    resamples: Annotated[int, Field(ge=0, le=20)]
    max_model_age_days: PositiveDays


@section
class Dataset:
    """Where events come from and what is predicted of them.

    source: name of the class that lands raw data; `source settings` are its own settings.
    horizon_days, step_days: days that a list predicts, and the spacing of cutoffs, of which the horizon is a multiple.
    earliest_day: events before it are rejected: 1970-01-01 and 0001-01-01 are what a missing time often becomes.
    max_id_length: characters of a user's or item's id, above which its events are rejected. Ids are kept in columns as wide as the
        longest one, so a single id of 3 million characters takes gigabytes.
    target: event type that is predicted.
    event_types: the data's own event types, each with one of view, cart, return, ignore or the target.
    min_rating: where the data have ratings, a target event with a lower one counts as a view.
    exclude_seen: whether lists leave out items that the user has had a target event with.
    columns: our column names, each with the data's own; "items.price" names the column of one table only.
    time_zone: zone of times that carry none.
    item_attributes, user_attributes: columns of items and users, besides `category` and `segment`, that become features.
    text_attributes: those of them whose values look like numbers but are names, such as postal codes.
    """

    source: Text
    horizon_days: Annotated[int, Field(ge=1, le=366)]
    step_days: Annotated[int, Field(ge=1, le=366)]
    max_quarantine: Share = 0.05
    max_daily_events: Count = 1_000
    max_age_days: Days = 0
    earliest_day: Day = "1990-01-01"
    max_id_length: Annotated[int, Field(ge=8, le=1_000)] = 128
    target: Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\sA-Z]+$", examples=['"play"'])] = "purchase"
    event_types: dict[str, str] = Field(default_factory=dict)
    min_rating: Annotated[float, Field(ge=-1_000_000, le=1_000_000)] | None = None
    exclude_seen: bool = False
    columns: dict[Text, Text] = Field(default_factory=dict)
    time_zone: str = "UTC"
    item_attributes: Names = Field(default_factory=list)
    user_attributes: Names = Field(default_factory=list)
    text_attributes: Names = Field(default_factory=list)
    source_settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("time_zone")
    @classmethod
    def _know_the_zone(cls, name: str) -> str:
        if name not in time_zones():
            raise ValueError('it must be a name of the IANA time zone database, such as "Europe/London" or "UTC"')
        return name

    @field_validator("target")
    @classmethod
    def _can_be_predicted(cls, target: str) -> str:
        if target in ("return", "ignore"):
            raise ValueError("this type cannot be predicted; name the event type that lists should lead to")
        return target

    @model_validator(mode="after")
    def _fit_together(self) -> "Dataset":
        if self.horizon_days % self.step_days:
            raise ValueError(
                f"horizon_days = {self.horizon_days} is no multiple of step_days = {self.step_days};"
                " cutoffs lie on one grid, so make it one"
            )
        for own, ours in self.event_types.items():
            if ours not in (*KNOWN_TYPES, self.target):
                allowed = ", ".join(dict.fromkeys((*KNOWN_TYPES, self.target)))
                raise ValueError(f'event_types maps "{own}" to "{ours}"; choose one of {allowed}')
        if len(self.own_types) < len(self.event_types):
            raise ValueError("event_types names a type twice, for capitals and spaces around it do not count; name it once")
        if (meaning := self.own_types.get(self.target, self.target)) != self.target:
            raise ValueError(f'event_types maps "{self.target}" to "{meaning}", but it is the target; take the entry out')
        if self.min_rating is not None and self.target == "view":
            raise ValueError("min_rating turns events into views, which are the target here; take it out, or name another target")
        known = self.attributes["item"] + self.attributes["user"]
        if unknown := [name for name in self.text_attributes if name not in known]:
            raise ValueError(f'text_attributes names "{unknown[0]}"; choose of {", ".join(known)}')
        return self

    @property
    def attributes(self) -> dict[str, list[str]]:
        """Attributes of items and of users, by "item" and "user"."""
        return {
            "item": list(dict.fromkeys(["category", *self.item_attributes])),
            "user": list(dict.fromkeys(["segment", *self.user_attributes])),
        }

    @property
    def text_only(self) -> list[str]:
        """Attributes that are text even if all their values are numbers: those named so, and what is a code by its name."""
        names = self.attributes["item"] + self.attributes["user"]
        coded = [name for name in names if re.search(r"(^|[_ ])(id|code)$", name, re.IGNORECASE)]
        return sorted({"category", "segment", *self.text_attributes, *coded})

    @property
    def a_target(self) -> str:
        """The target in a sentence: `a purchase`, `an order`."""
        return f"{'an' if self.target[0] in 'aeiou' else 'a'} {self.target}"

    @property
    def own_types(self) -> dict[str, str]:
        """`event_types` as the data's types are compared: in small letters, without spaces around them."""
        return {own.strip().lower(): ours for own, ours in self.event_types.items()}


@section
class Settings:
    """One run's settings: config.toml with the dataset chosen and the run's parameters laid over it.

    name: the dataset's folder in the store, with the sample's share where there is one.
    cases, expected: the lines of cases.jsonl and of expected.jsonl that concern this dataset.
    """

    name: Text
    seed: Seed
    store: StoreSettings
    warehouse: WarehouseSettings
    features: FeatureSettings
    evaluation: EvaluationSettings
    lists: ListSettings
    rules: RuleSettings
    serve: ServeSettings
    recommenders: dict[str, dict[str, Any]]
    tune: dict[str, dict[str, list[Any]]]
    validation: ValidationSettings
    checks: dict[str, dict[str, Any]]
    cases: list[dict[str, Any]]
    dataset: Dataset
    as_of: date | None
    sample: PositiveShare
    expected: list[dict[str, str]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        if "popularity" not in self.recommenders:
            raise ValueError("recommenders.popularity is missing; it is the baseline nothing may be worse than, add its section")
        for name in self.lists.alternatives:
            if name not in self.recommenders:
                raise ValueError(f'lists.alternatives names "{name}"; choose of {", ".join(self.recommenders)}')
        if self.evaluation.k > self.lists.length:
            raise ValueError(
                f"evaluation.k = {self.evaluation.k} is above lists.length = {self.lists.length}; what decides must be in"
                " the lists: lower k or lengthen the lists"
            )
        return self

    @property
    def dataset_name(self) -> str:
        """Of the dataset's section in config.toml."""
        return self.name.removesuffix(f"-sample-{self.sample:g}")

    @property
    def list_kind(self) -> str:
        """Kind of the lists that decide and are served by default: "all_items", or "new_items", which are new to the user."""
        return "new_items" if self.dataset.exclude_seen else "all_items"

    @property
    def evaluated_days(self) -> list[int]:
        """Days before `as_of` of the holdout's cutoff and those of selection: horizons that do not overlap, newest first."""
        return [self.dataset.horizon_days * (window + 1) for window in range(self.evaluation.selection_windows + 1)]

    @property
    def cutoff_days(self) -> list[int]:
        """Days before `as_of` of every cutoff: serving, then a grid on which each evaluated cutoff, and serving, has its
        training windows behind it, horizons over."""
        step, horizon = self.dataset.step_days, self.dataset.horizon_days
        oldest = self.evaluated_days[-1] + horizon + (self.features.training_windows - 1) * step
        return [0, *range(horizon, oldest + 1, step)]
