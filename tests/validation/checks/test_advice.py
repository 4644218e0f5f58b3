"""Advice: each check names the setting of its threshold, and a block names what is suspect and the commands that lead on."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, make_settings
from recsys import RecsysError
from recsys.store.snapshots import Store, open_store
from recsys.validation.advice import Advisor
from recsys.validation.checks import health, list_stability, lists
from recsys.validation.registry import CHECKS
from recsys.validation_report import CheckResult, require

DAY = date(2026, 12, 10)
LOW = CheckResult("list_stability_items", 0.97, 0.95, "block", False, "97% of the items are others")


@pytest.fixture
def advisor(tmp_path: Path) -> Advisor:
    """Of a training whose release was made while another one is live, in a store elsewhere."""
    store = open_store(str(tmp_path), "shop")
    return Advisor(store, make_settings(), DAY, DAY, good_day=date(2026, 12, 1), release="r1", live=True)


def complete(advisor: Advisor, check: str, **change: Any) -> CheckResult:
    found = CHECKS[check]
    return advisor.complete(replace(LOW, **change), check, found.module, found.suspect or found.on)


def test_every_setting_that_a_check_names_exists() -> None:
    values = make_settings()
    for name, check in CHECKS.items():
        settings = getattr(check.module, "SETTINGS", {})
        named = {part for one in settings.values() for text in ([one] if isinstance(one, str) else one) for part in text.split()}
        for setting in named:
            if "." not in setting and not setting.startswith("["):
                assert setting in check.limits.__annotations__, (name, setting)
                continue
            place: Any = values
            for part in setting.strip("[]").split("."):
                assert hasattr(place, part), (name, setting)
                place = getattr(place, part)


@pytest.mark.parametrize(
    ("check", "result", "setting"),
    [
        (list_stability, LOW, "checks.list_stability.block_changed in config.toml"),
        (list_stability, replace(LOW, severity="warn"), "checks.list_stability.warn_changed in config.toml"),
        (lists, replace(LOW, name="new_items_ranks"), "lists.length in config.toml"),
        (health, replace(LOW, name="scores_finite"), ""),
        (health, replace(LOW, name="x", setting="dataset.target"), "datasets.shop.target in config.toml"),
    ],
)
def test_a_check_names_the_setting_of_its_threshold(advisor: Advisor, check: Any, result: CheckResult, setting: str) -> None:
    name = check.__name__.rpartition(".")[2]
    assert advisor.complete(result, name, check, "data").setting == setting


def test_checks_without_a_table_of_settings_name_their_section(advisor: Advisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(list_stability, "SETTINGS")
    assert complete(advisor, "list_stability").setting == "[checks.list_stability] in config.toml"


@pytest.mark.parametrize(
    ("check", "change", "facts", "verbs", "words"),
    [
        ("history", {"name": "volume"}, {}, ["expect", "run"], "FROM=2026-12-03 TO=2026-12-09 KIND=volume"),
        ("history", {"name": "prices", "since": "2026-12-08"}, {}, ["expect", "run"], "FROM=2026-12-08 TO=2026-12-09 KIND=price"),
        ("freshness", {"name": "freshness"}, {}, ["expect", "run"], "FROM=2026-12-04 TO=2026-12-10 KIND=closed"),
        ("list_stability", {}, {}, ["expect", "recommend"], "KIND=volume"),
        ("history", {"name": "event_types"}, {}, ["run"], "AS_OF=2026-12-01"),
        ("lists", {}, {}, ["recommend"], ""),
        ("lists", {}, {"daily": True}, ["run"], ""),
        ("baseline", {}, {}, ["recommend"], ""),
        ("baseline", {}, {"live": False}, ["tune"], ""),
    ],
)
def test_a_block_names_the_commands_that_lead_on(
    advisor: Advisor, check: str, change: dict[str, Any], facts: dict[str, Any], verbs: list[str], words: str
) -> None:
    advice = complete(replace(advisor, **facts), check, **change).advice
    commands = re.findall(r"`make (\S+) ([^`]*)`", advice)
    assert [name for name, _ in commands] == ["report", *verbs]
    assert "RELEASE=r1" in commands[0][1]
    assert words in commands[1][1]
    assert all(f"DATASET=shop STORE={advisor.store.backend}".removesuffix("/shop") in values for _, values in commands)


def test_every_command_in_advice_is_a_verb(advisor: Advisor) -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for check in CHECKS:
        for facts in ({}, {"release": ""}, {"daily": True}, {"live": False}):
            found = re.findall(r"`make (\S+) ", complete(replace(advisor, **facts), check).advice)
            assert len(found) >= 2
            assert set(found) <= verbs


def test_before_there_is_a_release_the_data_are_looked_at(advisor: Advisor) -> None:
    advice = complete(replace(advisor, release=""), "raw").advice
    assert re.findall(r"`make (\S+) ", advice) == ["check-data", "run"]


def test_a_sample_and_the_usual_store_are_named_as_they_are_typed(tmp_path: Path) -> None:
    sample = make_settings(sample=0.1)
    usual = Advisor(open_store("data/store", sample.name, tmp_path), sample, DAY, DAY, DAY, release="r1")
    assert complete(usual, "lists").advice.startswith("Look: `make report RELEASE=r1 DATASET=shop SAMPLE=0.1`")


@pytest.mark.parametrize(
    ("root", "words"),
    [("s3://recs/store", "DATASET=shop PRODUCTION=1`"), ("s3://recs/store/user.ann", "DATASET=shop`"), ("s3://x", "STORE=s3://x`")],
)
def test_a_shared_store_is_named_by_what_the_user_passes(root: str, words: str) -> None:
    settings = make_settings(store={"root": "s3://recs/store"})
    there = Advisor(Store(Named(f"{root}/shop")), settings, DAY, DAY, DAY, release="r1")  # type: ignore[arg-type]
    assert words in complete(there, "lists").advice


class Named(str):
    """Of a backend, its address."""


def test_what_passed_or_warns_needs_no_advice(advisor: Advisor) -> None:
    assert complete(advisor, "list_stability", severity="warn").advice == ""
    assert complete(advisor, "list_stability", passed=True).advice == ""


def test_a_refusal_gives_check_value_threshold_setting_suspect_and_commands_once(advisor: Advisor) -> None:
    failed = [complete(advisor, "list_stability"), complete(advisor, "list_stability", name="list_stability_coverage")]
    with pytest.raises(RecsysError) as refused:
        require({"list_stability": failed}, ["list_stability"], "report")
    told = str(refused.value)
    for words in (
        "[list_stability_items] 97%",
        "value 0.97, limit 0.95",
        "checks.list_stability.block_changed in config.toml",
        "suspect: the lists",
    ):
        assert words in told
    assert told.count("`make report") == told.count("`make expect") == 1
    assert "\n" not in told
