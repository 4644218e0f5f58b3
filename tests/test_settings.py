"""Settings: a wrong value stops a run at its start, and the message names the key, the value and what is allowed."""

import json
import re
from dataclasses import asdict
from typing import Any

import jsonschema
import pytest

from conftest import ROOT, make_settings
from recsys import RecsysError
from recsys.checks import FAMILIES, check_config
from recsys.recommenders import RECOMMENDERS, create
from recsys.settings import parse, resolve, restore
from recsys.settings.schema import config_schema


def values() -> dict[str, Any]:
    return parse((ROOT / "config.toml").read_text())


def test_the_repositorys_config_resolves_for_every_dataset() -> None:
    for name in values()["datasets"]:
        assert resolve(values(), name).dataset.source == name


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(RecsysError, match=r"lists\.lenght"):
        make_settings(lists={"lenght": 3})


def test_a_missing_setting_is_named() -> None:
    changed = values()
    del changed["lists"]["length"]
    with pytest.raises(RecsysError, match=r"lists\.length.* is missing"):
        resolve(changed)


ABSURD: list[tuple[dict[str, Any], str]] = [
    ({"lists": {"length": "3"}}, 'lists.length is "3"; it must be a whole number from 1 to 1,000'),
    ({"lists": {"length": True}}, "lists.length is true; it must be a whole number from 1 to 1,000"),
    ({"lists": {"length": 2.5}}, "lists.length is 2.5; it must be a whole number from 1 to 1,000"),
    ({"lists": {"length": 0}}, "lists.length is 0; it must be a whole number from 1 to 1,000"),
    ({"lists": {"beside": "popularity"}}, "lists.beside is"),
    ({"lists": {"beside": ["nobody"]}}, 'lists.beside names "nobody"'),
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
    ({"evidence": {"seeds": 1}}, "evidence.seeds is 1"),
    ({"store": {"endpoint": "minio"}}, "store.endpoint is"),
    ({"dataset": {"target": ""}}, "datasets.shop.target is"),
    ({"dataset": {"target": "ignore"}}, "cannot be predicted"),
    ({"dataset": {"event_types": {"page": "click"}}}, 'event_types maps "page" to "click"'),
    ({"dataset": {"event_types": {"Page": "view", "page ": "cart"}}}, "event_types names a type twice"),
    ({"dataset": {"event_types": {"purchase": "cart"}}}, 'event_types maps "purchase" to "cart", but it is the target'),
    ({"dataset": {"target": "view", "min_rating": 3}}, "min_rating turns events into views"),
    ({"dataset": {"time_zone": "Mars/Base"}}, "datasets.shop.time_zone is"),
    ({"dataset": {"max_quarantine": 1.5}}, "datasets.shop.max_quarantine is 1.5; it must be a number from 0 to 1"),
    ({"dataset": {"item_attributes": ["brand", "brand"]}}, 'item_attributes names "brand" twice'),
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
        ("popularity", {"days": 0}, "recommenders.popularity.days is 0; it must be a whole number of 1 or more"),
        ("popularity", {"dayz": 7}, "recommenders.popularity.dayz is not a setting; did you mean days?"),
        ("two_stage", {"rate": "fast"}, 'recommenders.two_stage.rate is "fast"; it must be a number above 0 and up to 1'),
    ],
)
def test_an_absurd_parameter_of_a_recommender_is_refused(name: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(RecsysError, match=re.escape(words)):
        create(name, parameters)


def test_an_absurd_threshold_of_a_check_is_refused() -> None:
    with pytest.raises(RecsysError, match=re.escape("checks.drift.min_day is NaN; it must be a number from 0 to 1")):
        check_config(make_settings(checks={"drift": make_settings().checks["drift"] | {"min_day": float("nan")}}))


def test_settings_survive_a_release() -> None:
    settings = make_settings(as_of="2024-05-01", dataset={"columns": {"user_id": "customer"}})
    assert restore(json.loads(json.dumps(asdict(settings), default=str))) == settings


def test_the_committed_schema_is_the_code_s() -> None:
    made = config_schema(RECOMMENDERS, {name: family.module.Limits for name, family in FAMILIES.items()})
    assert json.loads((ROOT / "config.schema.json").read_text()) == made, "run `make schema` and commit config.schema.json"


def test_the_schema_accepts_the_repository_s_config_and_refuses_a_wrong_value() -> None:
    schema = json.loads((ROOT / "config.schema.json").read_text())
    jsonschema.validate(values(), schema)
    changed = values()
    changed["datasets"]["shop"]["horizon_days"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, schema)


def test_the_horizon_must_be_a_multiple_of_the_step() -> None:
    with pytest.raises(RecsysError, match="no multiple of step_days"):
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
