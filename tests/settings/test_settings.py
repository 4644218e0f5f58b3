"""Settings: a wrong value stops a run at its start, and the message names the key, the value and what is allowed."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import jsonschema
import pytest

from conftest import ROOT, make_settings, read_config
from recsys import RecsysError
from recsys.pipeline import check_settings
from recsys.recommenders.registry import RECOMMENDERS, create
from recsys.settings.deployment import Cloud, Operations, Resources, Schedule, read_operations
from recsys.settings.loading import config_schema, parse, resolve
from recsys.settings.run import Dataset, Settings
from recsys.settings.validation import build, resolve_reference, schema_of, shorten
from recsys.sources.registry import SOURCES
from recsys.validation.registry import CHECKS, check_config

REPOSITORYS = parse((ROOT / "config.toml").read_text())


def values() -> dict[str, Any]:
    return read_config()


def test_the_repositorys_config_resolves_for_every_dataset() -> None:
    for name, dataset in REPOSITORYS["datasets"].items():
        assert resolve(REPOSITORYS, name).dataset.source == dataset["source"]


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(RecsysError, match=r"lists\.lenght"):
        make_settings(lists={"lenght": 3})


def test_a_missing_setting_is_named() -> None:
    changed = values()
    del changed["lists"]["length"]
    with pytest.raises(RecsysError, match=r"lists\.length.* is missing"):
        resolve(changed)


def test_a_misspelt_setting_is_named_beside_the_one_that_is_missing() -> None:
    changed = values()
    changed["lists"]["lenght"] = changed["lists"].pop("length")
    with pytest.raises(RecsysError, match=r"lists\.length is missing.*lists\.lenght is not a setting; did you mean length\?"):
        resolve(changed)


ABSURD: list[tuple[dict[str, Any], str]] = [
    ({"lists": {"length": "3"}}, 'lists.length is "3"; it must be a whole number from 1 to 1,000'),
    ({"lists": {"length": True}}, "lists.length is true; it must be a whole number from 1 to 1,000"),
    ({"lists": {"length": 2.5}}, "lists.length is 2.5; it must be a whole number from 1 to 1,000"),
    ({"lists": {"length": 0}}, "lists.length is 0; it must be a whole number from 1 to 1,000"),
    ({"lists": {"alternatives": "popularity"}}, "lists.alternatives is"),
    ({"lists": {"alternatives": ["nobody"]}}, 'lists.alternatives names "nobody"'),
    ({"warehouse": {"threads": -1}}, "warehouse.threads is -1"),
    ({"warehouse": {"memory_limit": "banana"}}, 'warehouse.memory_limit is "banana"; it must be a text like "4GB"'),
    ({"features": {"training_windows": 0}}, "features.training_windows is 0"),
    ({"features": {"attribute_values": 0}}, "features.attribute_values is 0"),
    ({"evaluation": {"k": 100_000}}, "evaluation.k is 100000; it must be a whole number from 1 to 1,000"),
    ({"rules": {"max_category_share": 0.0}}, "rules.max_category_share is 0.0; it must be a number above 0 and up to 1"),
    ({"rules": {"min_age_days": 9, "max_age_days": 3}}, "max_age_days = 3 is below min_age_days = 9"),
    ({"serve": {"port": 99_999_999}}, "serve.port is 99999999; it must be a whole number from 1 to 65,535"),
    ({"serve": {"poll_seconds": 0}}, "serve.poll_seconds is 0; it must be a number above 0"),
    ({"serve": {"canary_failures": float("nan")}}, "serve.canary_failures is NaN; it must be a number from 0 to 1"),
    ({"validation": {"seeds": 1}}, "validation.seeds is 1"),
    ({"store": {"endpoint": "minio"}}, "store.endpoint is"),
    ({"dataset": {"target": ""}}, "datasets.shop.target is"),
    ({"dataset": {"target": "ignore"}}, "cannot be predicted"),
    ({"dataset": {"event_types": {"page": "click"}}}, 'event_types maps "page" to "click"'),
    ({"dataset": {"event_types": {"Page": "view", "page ": "cart"}}}, "event_types names a type twice"),
    ({"dataset": {"event_types": {"purchase": "cart"}}}, 'event_types maps "purchase" to "cart", but it is the target'),
    ({"dataset": {"target": "view", "min_rating": 3}}, "min_rating turns events into views"),
    ({"dataset": {"time_zone": "Mars/Base"}}, "datasets.shop.time_zone is"),
    ({"dataset": {"max_quarantine": 1.5}}, "datasets.shop.max_quarantine is 1.5; it must be a number from 0 to 1"),
    ({"dataset": {"item_attributes": ["brand", "brand"]}}, 'item_attributes is ["brand", "brand"]; it names "brand" twice'),
    ({"dataset": {"exclude_sen": True}}, "datasets.shop.exclude_sen is not a setting; did you mean exclude_seen?"),
]


@pytest.mark.parametrize(("changes", "words"), ABSURD)
def test_an_absurd_value_is_refused_with_key_value_and_range(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecsysError, match=re.escape(words)):
        make_settings("shop", **changes)


@pytest.mark.parametrize("seed", [-1, 2**32, "7"])
def test_an_absurd_seed_is_refused(seed: object) -> None:
    with pytest.raises(RecsysError, match=r"seed is .*; it must be a whole number of 0 or more below 4,294,967,296"):
        resolve(values() | {"seed": seed})


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("popularity", {"days": 0}, "recommenders.popularity.days is 0; it must be a whole number from 1 to 36,500"),
        ("popularity", {"dayz": 7}, "recommenders.popularity.dayz is not a setting; did you mean days?"),
        ("two_stage", {"rate": "fast"}, 'recommenders.two_stage.rate is "fast"; it must be a number above 0 and up to 1'),
    ],
)
def test_an_absurd_parameter_of_a_recommender_is_refused(name: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(RecsysError, match=re.escape(words)):
        create(name, parameters)


def test_an_absurd_threshold_of_a_check_is_refused() -> None:
    with pytest.raises(RecsysError, match=re.escape("checks.drift.warn_gone is NaN; it must be a number from 0 to 1")):
        check_config(make_settings(checks={"drift": make_settings().checks["drift"] | {"warn_gone": float("nan")}}))


def test_settings_survive_a_release() -> None:
    settings = make_settings(as_of="2024-05-01", dataset={"columns": {"user_id": "customer"}})
    assert build(Settings, json.loads(json.dumps(asdict(settings), default=str)), "") == settings


def test_the_committed_schema_is_the_code_s() -> None:
    made = config_schema(RECOMMENDERS, {name: check.limits for name, check in CHECKS.items()})
    assert json.loads((ROOT / "config.schema.json").read_text()) == made, "run `make schema` and commit config.schema.json"


def test_the_schema_accepts_the_repository_s_config_and_refuses_a_wrong_value() -> None:
    schema = json.loads((ROOT / "config.schema.json").read_text())
    jsonschema.validate(REPOSITORYS, schema)
    changed = values()
    changed["datasets"]["shop"]["horizon_days"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, schema)


def test_the_horizon_must_be_a_multiple_of_the_step() -> None:
    with pytest.raises(RecsysError, match="not a multiple of step_days"):
        make_settings(dataset={"horizon_days": 20, "step_days": 14})


@pytest.mark.parametrize("wrong", ["2024-2-1", "2024-02-30", "yesterday"])
def test_a_date_is_iso_or_refused(wrong: str) -> None:
    with pytest.raises(RecsysError, match="AS_OF"):
        make_settings(as_of=wrong)


def test_a_sample_is_a_share_and_has_a_store_of_its_own() -> None:
    assert make_settings(sample=0.01).name == "shop-sample-0.01"
    with pytest.raises(RecsysError, match="SAMPLE"):
        make_settings(sample=0.0)


def test_broken_toml_is_told_with_its_line() -> None:
    with pytest.raises(RecsysError, match="line 1"):
        parse("dataset = \nseed = 1")


def test_the_baseline_cannot_be_turned_off() -> None:
    changed = values()
    del changed["recommenders"]["popularity"]
    with pytest.raises(RecsysError, match=r"recommenders\.popularity.* is missing"):
        resolve(changed)


def test_cutoffs_lie_on_one_grid_with_training_windows_behind_every_evaluated_one() -> None:
    changed = make_settings(
        dataset={"horizon_days": 28, "step_days": 14}, evaluation={"selection_windows": 1}, features={"training_windows": 3}
    )
    assert changed.evaluated_days == [28, 56]
    assert changed.cutoff_days == [0, 28, 42, 56, 70, 84, 98, 112]


@pytest.mark.parametrize("wrong", ["http://recs.example.com", "localhost:8000", "*.example.com", "::1", ""])
def test_an_allowed_host_is_a_name_without_scheme_and_port(wrong: str) -> None:
    with pytest.raises(RecsysError, match=r"serve\.allowed_hosts"):
        make_settings(serve={"allowed_hosts": ["localhost", wrong]})


def test_names_addresses_and_any_host_can_be_allowed() -> None:
    hosts = ["recs.example.com", "recs", "10.0.0.7", "[::1]", "*"]
    assert make_settings(serve={"allowed_hosts": hosts}).serve.allowed_hosts == hosts


def check_everything(config: dict[str, Any], dataset: str = "shop") -> None:
    """What every verb checks before it starts."""
    check_settings(resolve(config, dataset))
    read_operations(config)
    build(Cloud, config["cloud"], "cloud")


def set_in(config: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy of the config with one value changed."""
    copied = copy.deepcopy(config)
    place = copied
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    return copied


def leaves(part: dict[str, Any], schema: dict[str, Any], *path: str) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Path and schema of every setting below a part of a schema."""
    part = resolve_reference(part, schema)
    if part.get("properties"):
        for name, inner in part["properties"].items():
            yield from leaves(inner, schema, *path, name)
    elif path:
        yield path, part


def all_settings() -> dict[str, tuple[tuple[str, ...], dict[str, Any]]]:
    """Every setting that config.toml may have, by its path, with its schema."""
    config = values()
    schema = config_schema(RECOMMENDERS, {name: check.limits for name, check in CHECKS.items()})
    operations = schema_of(Operations)
    several = [("schedule", name, schema_of(Schedule)) for name in config["schedule"]]
    several += [("resources", name, schema_of(Resources)) for name in config["resources"]]
    several += [("datasets", name, schema_of(Dataset)) for name in config["datasets"]]
    several += [
        ("datasets", f"{name}.source_settings", schema_of(SOURCES[own["source"]])) for name, own in config["datasets"].items()
    ]
    found = list(leaves(schema, schema)) + list(leaves(operations, operations))
    for section, name, inner in several:
        found += leaves(inner, inner, section, *name.split("."))
    return {".".join(path): (path, part) for path, part in found if part.get("type")}


SETTINGS = all_settings()
NUMBERS = {"integer", "number"}
WRONG: dict[str, list[Any]] = {
    "integer": [1e300, 10**400, float("nan"), float("inf"), -float("inf"), 2.5, "3", [3], {}, True],
    "number": [1e300, float("nan"), float("inf"), -float("inf"), "0.5", [], {}, False],
    "boolean": ["yes", "true", 1, 0, [], {}],
    "string": [7, 0.5, True, ["a"], {}],
    "array": ["a", 7, {}, True, float("nan")],
    "object": ["a", 7, [], True],
}


def wrong_values(part: dict[str, Any]) -> list[Any]:
    found = list(WRONG[part["type"]])
    if part["type"] in NUMBERS:
        excluded = [part[key] for key in ("exclusiveMinimum", "exclusiveMaximum") if key in part]
        least, most = (part.get(f"{end}imum", part.get(f"exclusive{end.title()}imum", 0)) for end in ("min", "max"))
        found += [*excluded, least - 1, most + 1, *(value for value in (-1, 0) if value < least)]
    items = part.get("items", {})
    if items.get("type") == "string":
        found += [[7], [["a"]], [True], [{}], ["a", "a"], [""]]
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_refuses_values_of_another_type_and_range(name: str) -> None:
    path, part = SETTINGS[name]
    config = values()
    for wrong in wrong_values(part):
        with pytest.raises(RecsysError) as refused:
            check_everything(set_in(config, path, wrong), path[1] if path[0] == "datasets" and path[1:] else "")
        told = str(refused.value)
        assert "\n" not in told
        assert name in told, wrong
        assert shorten(wrong) in told or shorten(next(iter(wrong))) in told
        assert "must be" in told or "; " in told


@pytest.mark.parametrize("name", [name for name, (_, part) in SETTINGS.items() if part["type"] in NUMBERS])
def test_every_number_has_a_range(name: str) -> None:
    part = SETTINGS[name][1]
    assert {"minimum", "exclusiveMinimum"} & part.keys()
    assert {"maximum", "exclusiveMaximum"} & part.keys()


SENSELESS: list[tuple[str, Any, str]] = [
    ("dataset", "nowhere", "shop"),
    ("dataset", ["shop"], "shop"),
    ("datasets", [], "a table"),
    ("datasets.shop", 7, "a table"),
    ("datasets.shop.source_settings", "users", "a table"),
    ("seed", -1, "0 or more"),
    ("seeed", 7, "not a setting"),
    ("store.root", "", "text"),
    ("store.root", "http://example.com/store", "s3://bucket/prefix"),
    ("store.root", "s3://", "s3://bucket/prefix"),
    ("store.endpoint", "127.0.0.1:9000", "http://"),
    ("store.endpoint", "ftp://127.0.0.1:9000", "http://"),
    ("warehouse.memory_limit", "banana", "4GB"),
    ("warehouse.memory_limit", "-1GB", "4GB"),
    ("warehouse.memory_limit", "0GB", "100MB"),
    ("warehouse.memory_limit", "1KB", "100MB"),
    ("warehouse.memory_limit", "99999999TB", "100TB"),
    ("warehouse.memory_limit", "60%", "4GB"),
    ("warehouse.threads", 0, "1 to 256"),
    ("evaluation.k", 51, "lists.length = 50"),
    ("lists.alternatives", ["popularity", "popularity"], "twice"),
    ("lists.alternatives", ["nobody"], "popularity"),
    ("rules.blocked", [85123], "text"),
    ("rules.static", ["a", "b", "a"], "twice"),
    ("rules.max_age_days", 10**6, "36,500"),
    ("serve.port", 99_999_999, "65,535"),
    ("serve.port", 0, "65,535"),
    ("serve.host", "", "text"),
    ("serve.host", "http://127.0.0.1", "address"),
    ("serve.allowed_hosts", [], "list"),
    ("serve.allowed_hosts", ["localhost:8000"], "without scheme and port"),
    ("recommenders.nobody", {}, "popularity"),
    ("recommenders.two_stage.tree", 3, "did you mean trees?"),
    ("recommenders.two_stage.ranker", "xgboost", "logistic_regression"),
    ("tune.two_stage.ranker", ["xgboost"], "logistic_regression"),
    ("recommenders.popularity", "often", "a table"),
    ("tune.nobody", {"x": [1]}, "popularity"),
    ("tune.two_stage.leaves", [15, "many"], "whole number"),
    ("tune.two_stage.leavs", [15], "did you mean leaves?"),
    ("tune.two_stage.leaves", 15, "list"),
    ("checks.nothing", {}, "check"),
    ("checks.drift.min_rowz", 5, "did you mean"),
    ("checks.drift.warn_gone", 0.5, "block_gone = 0.4"),
    ("checks.list_stability.warn_changed", 0.99, "block_changed = 0.95"),
    ("checks.seen.few", 0.5, "many = 0.2"),
    ("checks.seeds.max_spread", 0.5, "block_spread = 0.25"),
    ("checks.lists.min_users_served", 1.5, "from 0 to 1"),
    ("datasets.shop.source", "banana", "events"),
    ("datasets.shop.horizon_days", 20, "step_days"),
    ("datasets.shop.horizon_days", 0, "1 to 366"),
    ("datasets.shop.max_quarantine", 1.5, "from 0 to 1"),
    ("datasets.shop.time_zone", "Mars/Phobos", "IANA"),
    ("datasets.shop.time_zone", "", "IANA"),
    ("datasets.shop.target", "Purchase", "a text"),
    ("datasets.shop.target", "return", "predicted"),
    ("datasets.shop.event_types", {"page": "banana"}, "view"),
    ("datasets.shop.columns", {"user_id": 7}, "a text"),
    ("datasets.shop.item_attributes", ["brand", "brand"], "twice"),
    ("datasets.shop.min_rating", float("nan"), "number"),
    ("alerts.to", "", "https://"),
    ("alerts.to", "http://example.com/hook", "https://"),
    ("alerts.to", "ftp://example.com/hook", "https://"),
    ("alerts.to", "https://", "https://"),
    ("alerts.to", "data/", "file"),
    ("alerts.timeout_seconds", 0, "above 0"),
    ("monitor.max_without_list", 2, "from 0 to 1"),
    ("unattended.project", "My Project", "reasonable_recs"),
    ("unattended.retries", 99, "0 to 10"),
    ("unattended.secrets", ["a", "a"], "twice"),
    ("schedule.train.cron", "99 99 * * *", "0 to 59"),
    ("schedule.train.cron", "0 25 * * *", "0 to 23"),
    ("schedule.train.cron", "0 2 0 * *", "1 to 31"),
    ("schedule.train.cron", "50-10 2 * * *", "backwards"),
    ("schedule.train.cron", "hourly", "five fields"),
    ("resources.train.cpu", 0, "1 to 192"),
    ("resources.train.memory", 1, "512 to"),
]


@pytest.mark.parametrize(("name", "wrong", "words"), SENSELESS)
def test_a_senseless_value_is_refused_before_anything_starts(name: str, wrong: Any, words: str) -> None:
    path = tuple(name.split("."))
    with pytest.raises(RecsysError) as refused:
        check_everything(set_in(values(), path, wrong), path[1] if path[0] == "datasets" and path[1:] else "")
    told = str(refused.value)
    assert "\n" not in told
    assert path[-1] in told
    assert words in told


def test_the_repository_s_config_passes_every_check_for_every_dataset() -> None:
    for name in REPOSITORYS["datasets"]:
        check_everything(REPOSITORYS, name)


@pytest.mark.parametrize("name", ["store", "datasets", "recommenders", "checks", "cloud", "resources"])
def test_a_section_that_is_no_table_is_refused(name: str) -> None:
    with pytest.raises(RecsysError, match=rf"config: {name} is 3; it must be a table"):
        parse(f"{name} = 3")


@pytest.mark.parametrize("text", ["seed = 2031-02-30", "seed = 07", "seed = ", "[seed", "seed = 7\nseed = 8"])
def test_what_is_no_toml_is_refused(text: str) -> None:
    with pytest.raises(RecsysError, match=r"config\.toml cannot be read: .*line"):
        parse(text)


@pytest.mark.parametrize("text", ["seed = 2024-01-01", "seed = 07:32:00", "rules.blocked = [07:32:00, 7]"])
def test_dates_and_times_where_none_belong_are_refused(text: str) -> None:
    with pytest.raises(RecsysError, match="must be"):
        check_everything(values() | parse(text))
