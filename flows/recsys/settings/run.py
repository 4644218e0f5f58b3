"""Settings of a run: the sections of config.toml that change a release. Its manifest records them."""

import re
from datetime import date
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import Field, field_validator, model_validator

from recsys.settings.validation import Count, Day, Days, Names, PositiveDays, PositiveShare, Seconds, Seed, Share, Text, section

KNOWN_TYPES = ("view", "cart", "return", "ignore")  # besides the target

HOST = re.compile(r"\*|[\w-]+(\.[\w-]+)*|\[[0-9a-fA-F:.]+\]", re.ASCII)
UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
time_zones = cache(available_timezones)  # each call would read a folder


@section
class StoreSettings:
    """endpoint: address of an S3-compatible store, such as MinIO; empty for AWS."""

    root: Text
    endpoint: Annotated[str, Field(pattern=r"^(https?://[^/\s]+/?)?$", examples=['"http://127.0.0.1:9000"'])] = ""

    @field_validator("root")
    @classmethod
    def _check_root(cls, root: str) -> str:
        if "://" in root and not re.match(r"s3://[^/\s]", root):
            raise ValueError("write the path of a directory, or s3://bucket/prefix")
        return root


@section
class WarehouseSettings:
    """Limits of DuckDB, which spills to disk above `memory_limit`."""

    memory_limit: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?B)$", examples=['"4GB"'])]
    threads: Annotated[int, Field(ge=1, le=256)]

    @field_validator("memory_limit")
    @classmethod
    def _check_memory_limit(cls, size: str) -> str:
        unit = size.lstrip("0123456789. ")
        if not 100e6 <= float(size.removesuffix(unit)) * UNITS[unit] <= 100e12:
            raise ValueError("it must be from 100MB to 100TB")
        return size


@section
class FeatureSettings:
    """attribute_values: number of values of a text attribute that are counted separately; rarer ones count as `other`.
    max_attribute_leak: largest allowed correlation (0 to 1) of an attribute without valid_from with later target events, given the
        earlier ones. An attribute above it is left out.
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
    selection_users: Count = 200

    @property
    def ks(self) -> list[int]:
        """List lengths at which metrics are computed. `k` is used for selection and shown in tables."""
        return sorted({5, 10, 20, self.k})

    @property
    def metric(self) -> str:
        """Name of the metric that selects recommenders, that checks compare by, and that tables show."""
        return f"ndcg@{self.k}"


@section
class ListSettings:
    """session_repeats: None for the number that is better on earlier days."""

    length: Annotated[int, Field(ge=1, le=1_000)]
    alternatives: Names
    session_neighbours: Annotated[int, Field(ge=1, le=1_000)] = 100
    session_repeats: Annotated[int, Field(ge=0, le=50)] | None = None


@section
class RuleSettings:
    """Business rules: they restrict which items may be listed, whatever the recommender. 0 days turn a rule off."""

    blocked: Names
    blocked_categories: Names
    min_age_days: Days
    max_age_days: Days
    max_days_unsold: Days
    max_category_share: PositiveShare
    static: Names

    @model_validator(mode="after")
    def _check_ages(self) -> "RuleSettings":
        if 0 < self.max_age_days < self.min_age_days:
            raise ValueError(
                f"max_age_days = {self.max_age_days} is below min_age_days = {self.min_age_days}, so nothing could be listed;"
                " raise it, or set it to 0"
            )
        return self


@section
class ServeSettings:
    """allowed_hosts: values of the Host header that the service accepts, without a port; "*" for any."""

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
    def _check_host(cls, host: str) -> str:
        if host == "*" or not (HOST.fullmatch(host) or re.fullmatch(r"[0-9a-fA-F:]+", host)):
            raise ValueError('it is not a host name or address; write one such as "127.0.0.1", "::1" or "0.0.0.0"')
        return host

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: list[str]) -> list[str]:
        if wrong := [host for host in hosts if not HOST.fullmatch(host)]:
            raise ValueError(
                f'"{wrong[0]}" is not a plain host name or address; write one without scheme and port, such as "recs.example.com",'
                ' "10.0.0.7" or "[::1]", or "*" for any'
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
    """The source of the events, and how they are read.

    source: name of the source in sources/registry.py; source_settings are the arguments of its class.
    horizon_days: days after a cutoff that a list predicts. step_days: days between cutoffs; horizon_days is a multiple of it.
    max_quarantine: largest share of rejected events.
    max_daily_events: a user with more events on a day is a bot, and that day's events are rejected.
    max_age_days: largest age of the last event in days; 0 for a closed history.
    earliest_day: events before it are rejected. Missing times are often exported as 1970-01-01 or 0001-01-01.
    max_id_length: events with a longer user or item id are rejected. Columns are as wide as the longest id, so one id of 3 million
        characters would take gigabytes.
    target: event type that is predicted.
    event_types: maps event types of the data to view, cart, return, ignore or the target.
    min_rating: a target event with a lower rating, or without one, counts as a view.
    exclude_seen: whether lists leave out items that the user has had a target event with.
    columns: maps our column names to those of the data; a key such as "items.price" applies to one table. "" for a column
        that is not read, although the data have one of that name.
    time_zone: IANA name of the zone of times without a zone.
    item_attributes, user_attributes: columns of items and users that become features, besides `category` and `segment`.
    text_attributes: attributes whose values look like numbers but are names, such as postal codes.
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
    columns: dict[Text, str] = Field(default_factory=dict)
    time_zone: str = "UTC"
    item_attributes: Names = Field(default_factory=list)
    user_attributes: Names = Field(default_factory=list)
    text_attributes: Names = Field(default_factory=list)
    source_settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, name: str) -> str:
        if name not in time_zones():
            raise ValueError('it must be a name of the IANA time zone database, such as "Europe/London" or "UTC"')
        return name

    @field_validator("target")
    @classmethod
    def _check_target(cls, target: str) -> str:
        if target in ("return", "ignore"):
            raise ValueError("this type cannot be predicted; name the event type that lists should predict")
        return target

    @model_validator(mode="after")
    def _check_consistency(self) -> "Dataset":
        if self.horizon_days % self.step_days:
            raise ValueError(
                f"horizon_days = {self.horizon_days} is not a multiple of step_days = {self.step_days};"
                " cutoffs are step_days apart, so make it one"
            )
        allowed = dict.fromkeys((*KNOWN_TYPES, self.target))
        if wrong := [f'"{own}" to "{ours}"' for own, ours in self.event_types.items() if ours not in allowed]:
            raise ValueError(f"event_types maps {wrong[0]}; choose one of {', '.join(allowed)}")
        if len(self.own_types) < len(self.event_types):
            raise ValueError("event_types names a type twice (case and surrounding spaces are ignored); name it once")
        if (meaning := self.own_types.get(self.target, self.target)) != self.target:
            raise ValueError(f'event_types maps "{self.target}" to "{meaning}", but it is the target; remove the entry')
        if self.min_rating is not None and self.target == "view":
            raise ValueError("min_rating turns events into views, which are the target here; remove it, or name another target")
        known = self.attributes["item"] + self.attributes["user"]
        if unknown := [name for name in self.text_attributes if name not in known]:
            raise ValueError(f'text_attributes names "{unknown[0]}"; choose of {", ".join(known)}')
        return self

    @property
    def attributes(self) -> dict[str, list[str]]:
        """Names of the attributes by entity, "item" and "user"."""
        return {
            "item": list(dict.fromkeys(["category", *self.item_attributes])),
            "user": list(dict.fromkeys(["segment", *self.user_attributes])),
        }

    @property
    def text_only(self) -> list[str]:
        """Attributes that are text even if all their values are numbers: text_attributes, and names that end in `id` or `code`."""
        names = self.attributes["item"] + self.attributes["user"]
        coded = [name for name in names if re.search(r"(^|[_ ])(id|code)$", name, re.IGNORECASE)]
        return sorted({"category", "segment", *self.text_attributes, *coded})

    @property
    def a_target(self) -> str:
        """The target with its article: `a purchase`, `an order`."""
        return f"{'an' if self.target[0] in 'aeiou' else 'a'} {self.target}"

    @property
    def own_types(self) -> dict[str, str]:
        """`event_types` with lower-cased and stripped keys, as types of the data are compared."""
        return {own.strip().lower(): ours for own, ours in self.event_types.items()}


@section
class Settings:
    """Settings of one run: config.toml with the chosen dataset and the run's parameters.

    name: the dataset's folder in the store; a sample's name ends in its share.
    cases, expected: the lines of cases.jsonl and expected.jsonl for this dataset.
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
    def _check_consistency(self) -> "Settings":
        if "popularity" not in self.recommenders:
            raise ValueError("recommenders.popularity is missing; every release is compared with it, so add its section")
        if unknown := [name for name in self.lists.alternatives if name not in self.recommenders]:
            raise ValueError(f'lists.alternatives names "{unknown[0]}"; choose of {", ".join(self.recommenders)}')
        if self.evaluation.k > self.lists.length:
            raise ValueError(
                f"evaluation.k = {self.evaluation.k} is above lists.length = {self.lists.length}; lists must have k items:"
                " lower k or raise lists.length"
            )
        return self

    @property
    def dataset_name(self) -> str:
        """Name of the dataset's section in config.toml."""
        return self.name.removesuffix(f"-sample-{self.sample:g}")

    @property
    def list_kind(self) -> str:
        """Kind of the lists that are served and evaluated by default: "all_items", or "new_items" (items new to the user)."""
        return "new_items" if self.dataset.exclude_seen else "all_items"

    @property
    def evaluated_days(self) -> list[int]:
        """Days before `as_of` of the holdout's cutoff and of the selection cutoffs, newest first. Their horizons do not overlap."""
        return [self.dataset.horizon_days * (window + 1) for window in range(self.evaluation.selection_windows + 1)]

    @property
    def cutoff_days(self) -> list[int]:
        """Days before `as_of` of every cutoff: 0 for serving, then steps back far enough that serving and each evaluated cutoff
        have their training windows, whose horizons end by that cutoff."""
        step, horizon = self.dataset.step_days, self.dataset.horizon_days
        oldest = self.evaluated_days[-1] + horizon + (self.features.training_windows - 1) * step
        return [0, *range(horizon, oldest + 1, step)]
