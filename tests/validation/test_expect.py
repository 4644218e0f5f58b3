"""Expected changes: noted in a file and in the store, they turn the checks that would block for them into warnings, no others."""

import inspect
import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from conftest import Fork, assert_refused, make_settings, read_config
from recsys import RecsysError
from recsys.settings.loading import resolve
from recsys.settings.run import Settings
from recsys.store.snapshots import Store, open_store
from recsys.validation import expected_changes
from recsys.validation.advice import Advisor
from recsys.validation.expected_changes import KINDS, ExpectedChange
from recsys.validation.registry import CHECKS
from recsys.validation_report import CheckResult, ValidationReport

CHRISTMAS = ExpectedChange("shop", date(2026, 12, 1), date(2026, 12, 24), "volume", "Christmas")
LOW = CheckResult("volume", 5, 3, "block", False, "5 of the last 7 days have few events")


def advisor(store: Store, settings: Settings, as_of: date, *changes: ExpectedChange, **facts: Any) -> Advisor:
    return Advisor(store, settings, as_of, as_of, date(2026, 11, 1), "r1", expected=changes, **facts)


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return open_store(str(tmp_path), "shop")


def complete(store: Store, as_of: date, *changes: ExpectedChange, result: CheckResult = LOW, check: str = "history") -> CheckResult:
    module, on = CHECKS[check].module, CHECKS[check].on
    return advisor(store, make_settings(), as_of, *changes).complete(result, check, module, on)


def test_within_its_days_a_check_that_would_block_only_warns_and_says_why(local: Store) -> None:
    found = complete(local, date(2026, 12, 10), CHRISTMAS)
    assert (found.passed, found.severity, found.expected) == (False, "warn", "Christmas, 2026-12-01 to 2026-12-24")
    assert found.message == f"{LOW.message}; expected: Christmas, 2026-12-01 to 2026-12-24"


@pytest.mark.parametrize(
    ("as_of", "blocks"),
    [
        (date(2026, 12, 1), True),  # which sees the days before alone
        (date(2026, 12, 2), False),
        (date(2026, 12, 31), False),  # looks seven days back, to the 24th
        (date(2027, 1, 1), True),
    ],
)
def test_a_change_counts_while_the_check_looks_at_one_of_its_days(local: Store, as_of: date, blocks: bool) -> None:
    assert complete(local, as_of, CHRISTMAS).blocks == blocks


def test_a_check_that_looks_further_back_is_softened_longer(local: Store) -> None:
    drifted = replace(LOW, name="feature_drift")
    assert not complete(local, date(2027, 1, 1), CHRISTMAS, result=drifted, check="drift").blocks
    assert complete(local, date(2027, 2, 1), CHRISTMAS, result=drifted, check="drift").blocks


@pytest.mark.parametrize(
    ("kind", "softened", "not_softened"),
    [
        (
            "volume",
            ["history.volume", "list_stability.list_stability_items"],
            ["history.prices", "history.hours", "list_stability.list_stability_ran"],
        ),
        ("catalogue", ["drift.catalogue_turnover", "history.mix"], ["history.volume"]),
        (
            "closed",
            ["history.volume", "history.hours", "freshness.freshness"],
            ["freshness.model_age", "list_stability.list_stability_items"],
        ),
        ("price", ["history.prices"], ["history.mix", "history.event_types"]),
    ],
)
def test_a_kind_softens_its_own_checks(kind: str, softened: list[str], not_softened: list[str]) -> None:
    change, day = replace(CHRISTMAS, kind=kind), date(2026, 12, 10)
    assert all(change.softens(check, day, day) for check in softened)
    assert not any(change.softens(check, day, day) for check in not_softened)


@pytest.mark.parametrize("check", sorted({check for checks in KINDS.values() for check in checks}))
def test_a_check_that_is_softened_exists_and_judges_neither_models_nor_lists_nor_raw_data(check: str) -> None:
    check, _, name = check.partition(".")
    assert f'"{name}"' in inspect.getsource(CHECKS[check].module)
    assert CHECKS[check].on == "data"
    assert check not in ("raw", "lists", "released", "diversity", "cases")


def test_a_check_that_passed_says_nothing_of_the_change(local: Store) -> None:
    found = complete(local, date(2026, 12, 10), CHRISTMAS, result=replace(LOW, passed=True))
    assert (found.expected, found.severity) == ("", "block")


def test_what_a_change_softened_is_kept_in_the_report(local: Store) -> None:
    found = complete(local, date(2026, 12, 10), CHRISTMAS)
    read = ValidationReport.read(ValidationReport("m", "f", "c", {}, {"drift": [found]}).to_json())
    assert read
    assert read.on_data["drift"] == [found]


def test_report_without_the_new_fields_is_read(local: Store) -> None:
    old = {name: value for name, value in vars(LOW).items() if name not in ("setting", "suspect", "expected", "advice")}
    data = {"model": "m", "features": "f", "content": "c", "on_model": {}, "on_data": {"drift": [old]}}
    assert ValidationReport.read(json.dumps(data).encode()) == ValidationReport("m", "f", "c", {}, {"drift": [LOW]})


def test_the_store_and_the_file_are_read_together_and_the_store_takes_back(store: Store) -> None:
    sale = replace(CHRISTMAS, kind="price", because="sale")
    settings = replace(make_settings(), expected=[CHRISTMAS.to_values(), sale.to_values()])
    moved = replace(CHRISTMAS, first=date(2026, 12, 2))
    expected_changes.record(store, moved)
    expected_changes.record(store, sale, off=True)
    assert expected_changes.known(store, settings) == [CHRISTMAS, moved]
    expected_changes.record(store, sale)
    assert expected_changes.known(store, settings) == [sale, CHRISTMAS, moved]


def test_an_object_that_cannot_be_read_excuses_nothing(local: Store) -> None:
    expected_changes.record(local, CHRISTMAS)
    local.update("expected/garbled.json", lambda known: b"{")
    local.update("expected/other.json", lambda known: b'{"from": "soon"}')
    assert expected_changes.known(local, make_settings()) == [CHRISTMAS]


def test_a_change_is_replaced_or_removed_in_the_file_and_other_lines_stay() -> None:
    other = json.dumps(replace(CHRISTMAS, kind="closed").to_values()) + "\n"
    text = expected_changes.rewrite(other, CHRISTMAS)
    assert expected_changes.parse(text)[1] == CHRISTMAS.to_values()
    renamed = expected_changes.rewrite(text, replace(CHRISTMAS, because="Weihnachten"))
    assert [line["because"] for line in expected_changes.parse(renamed)] == ["Christmas", "Weihnachten"]
    assert expected_changes.rewrite(renamed, CHRISTMAS, off=True) == other


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"from": "soon"}, 'line 2: FROM is "soon"; it is not a date'),
        ({"to": "2026-11-30"}, "TO 2026-11-30 is before FROM 2026-12-01"),
        ({"to": "2027-12-01"}, "366 days, and a change may last 92"),
        ({"kind": "party"}, 'KIND is "party"; pass one of volume, catalogue, closed, price'),
        ({"because": " "}, "BECAUSE is not given"),
        ({"until": "2027"}, "it takes dataset, from, to, kind, because"),
        ({"kind": 3}, "each a text"),
    ],
)
def test_a_line_that_is_no_change_is_named(change: dict[str, Any], words: str) -> None:
    good = CHRISTMAS.to_values()
    with pytest.raises(RecsysError) as refused:
        expected_changes.parse(f"{json.dumps(good)}\n{json.dumps(good | change)}\n")
    assert "expected.jsonl, line 2" in str(refused.value)
    assert words in str(refused.value)


def test_a_change_is_of_one_dataset_and_its_samples() -> None:
    values = read_config() | {"expected": [CHRISTMAS.to_values()]}
    assert resolve(values, "shop", sample=0.5).expected == [CHRISTMAS.to_values()]
    assert resolve(values, "events").expected == []


@pytest.fixture
def fork(tmp_path: Path) -> Fork:
    return Fork(tmp_path / "fork")


GIVEN = {"FROM": "2026-12-01", "TO": "2026-12-24", "KIND": "volume", "BECAUSE": "Christmas, as ever"}


def test_a_change_is_noted_listed_and_taken_back(fork: Fork) -> None:
    assert "is expected" in fork.run("expect", **GIVEN).stdout
    (line,) = (fork.root / "expected.jsonl").read_text().splitlines()
    assert json.loads(line) == CHRISTMAS.to_values() | {"because": "Christmas, as ever"}
    assert "2026-12-01 to 2026-12-24  volume     Christmas, as ever" in fork.run("expect").stdout
    (fork.root / "expected.jsonl").unlink()  # as where a flow was deployed before
    assert "Christmas, as ever" in fork.run("expect").stdout
    assert "is no longer expected" in fork.run("expect", OFF="1", **{**GIVEN, "BECAUSE": ""}).stdout
    assert fork.run("expect").stdout == "0 changes of shop are expected\n"
    assert_refused(fork.run("expect", OFF="1", **GIVEN), "no volume change is expected from 2026-12-01 to 2026-12-24")


def test_what_cannot_be_expected_is_refused_and_nothing_is_noted(fork: Fork) -> None:
    for change, words in (
        ({"FROM": "1 December"}, 'FROM is "1 December"; it is not a date'),
        ({"TO": ""}, 'TO is ""; it is not a date'),
        ({"KIND": "party"}, 'KIND is "party"'),
        ({"BECAUSE": ""}, "BECAUSE is not given"),
        ({"DATASET": "nope"}, 'DATASET "nope"'),
    ):
        assert_refused(fork.run("expect", **GIVEN | change), words)
    assert not (fork.root / "expected.jsonl").exists()
    assert not (fork.store() / "expected").exists()
