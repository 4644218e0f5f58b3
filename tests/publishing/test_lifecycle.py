"""Rolled back to, tried out, promoted: who is live afterwards, and who was refused."""

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from conftest import make_release, make_settings
from recsys import RecsysError
from recsys.publishing.lifecycle import listed, previous, promote, rollback, try_out
from recsys.publishing.publication import ValidatedRelease, publish, same_champion
from recsys.store.backends import Conflict
from recsys.store.snapshots import Canary, Store, open_store
from recsys.validation_report import CheckResult, ValidationReport

CHECKS = ["lists", "baseline"]


def live(store: Store, id: str, model: str = "m1", day: int = 1) -> ValidationReport:
    """Makes a release of a model and publishes it."""
    report = make_release(store, id, id, date(2024, 2, day), model)
    publish(store, ValidatedRelease(id, report, store.current()), CHECKS)
    return report


@pytest.fixture
def abc(store: Store) -> Store:
    """A store in which a, then b, then c went live."""
    for id in "abc":
        live(store, id)
    return store


# Rolling back


def test_in_an_empty_store_there_is_nothing_to_go_back_to(store: Store) -> None:
    with pytest.raises(RecsysError, match=r"no release was ever live in .*`make run` makes one"):
        rollback(store, CHECKS)


@pytest.mark.both_stores
def test_each_rollback_goes_one_release_further_back(abc: Store) -> None:
    assert [rollback(abc, CHECKS), rollback(abc, CHECKS)] == ["b", "a"]
    with pytest.raises(RecsysError, match="no earlier release than a was live"):
        rollback(abc, CHECKS)
    assert abc.current() == "a"


def test_the_history_tells_a_rollback_and_what_it_left(abc: Store) -> None:
    rollback(abc, CHECKS, at="noon")
    assert abc.history()[-1] == {"release": "b", "previous": "c", "model": "m1", "rolled_back": "c", "at": "noon"}


def test_what_goes_live_after_a_rollback_has_the_release_beneath_as_previous(abc: Store) -> None:
    rollback(abc, CHECKS)
    live(abc, "d")
    assert previous(abc) == "b"
    assert [rollback(abc, CHECKS), rollback(abc, CHECKS)] == ["b", "a"]


def test_a_rollback_to_a_named_release_leaves_out_those_between(abc: Store) -> None:
    assert rollback(abc, CHECKS, "a") == "a"
    assert previous(abc) is None
    assert rollback(abc, CHECKS, "c") == "c"
    assert previous(abc) == "a"


def test_a_rollback_to_what_was_never_live_leaves_out_what_it_left(abc: Store) -> None:
    make_release(abc, "x")
    rollback(abc, CHECKS, "x")
    assert previous(abc) == "b"
    assert [rollback(abc, CHECKS), rollback(abc, CHECKS)] == ["b", "a"]


def test_what_was_never_live_needs_every_check_before_users_see_it(abc: Store) -> None:
    make_release(abc, "x")
    for move in (lambda: rollback(abc, [*CHECKS, "drift"], "x"), lambda: try_out(abc, [*CHECKS, "drift"], "x", 0.5)):
        with pytest.raises(RecsysError, match=r"release x, which was never live: no check result of drift"):
            move()
    assert (abc.current(), abc.canary()) == ("c", None)
    assert rollback(abc, [*CHECKS, "drift"], "a") == "a"  # it was live before this check was required


def test_what_is_no_longer_kept_is_not_gone_back_to(abc: Store) -> None:
    abc.free("release", "b")
    assert rollback(abc, CHECKS) == "a"


def test_going_back_to_what_is_live_or_unknown_is_refused(abc: Store) -> None:
    for release, words in {"c": "release c is live already", "x": "release x is not in"}.items():
        with pytest.raises(RecsysError, match=words):
            rollback(abc, CHECKS, release)
    assert abc.current() == "c"


def test_a_release_that_blocks_is_not_gone_back_to(abc: Store) -> None:
    report = ValidationReport.from_json(abc.report("b") or b"")
    report.on_data["lists"].append(CheckResult("x", 1, 0, "block", False, "one too many"))
    abc.attach_report("b", report.to_json())
    with pytest.raises(RecsysError, match=r"validation report of release b: \[x\] one too many"):
        rollback(abc, CHECKS)
    assert abc.current() == "c"


def test_a_release_that_is_damaged_is_not_gone_back_to_but_left(abc: Store) -> None:
    abc.backend.remove("releases/c/validation_report.json")
    assert rollback(abc, CHECKS) == "b"
    with pytest.raises(RecsysError, match="release c has no readable validation report"):
        rollback(abc, CHECKS, "c")
    assert abc.current() == "b"


def test_what_was_judged_against_the_release_rolled_back_from_is_a_conflict(abc: Store) -> None:
    report = make_release(abc, "d")
    rollback(abc, CHECKS)
    with pytest.raises(Conflict):
        publish(abc, ValidatedRelease("d", report, "c"), CHECKS)
    with pytest.raises(Conflict, match="another run published"):
        same_champion(abc, "c")
    assert abc.current() == "b"


# Champions


def test_only_a_release_of_the_same_model_stands_for_the_one_that_was_judged_against(store: Store) -> None:
    live(store, "a", model="m1")
    live(store, "b", model="m1")
    assert same_champion(store, "a") == "b"
    live(store, "c", model="m2")
    for expected in ("a", "b", "gone", None):
        with pytest.raises(Conflict, match="another run published"):
            same_champion(store, expected)


# Canaries


@pytest.mark.both_stores
def test_a_canary_is_tried_beside_the_live_release_and_promoted_in_its_place(abc: Store) -> None:
    make_release(abc, "d")
    try_out(abc, CHECKS, "d", 0.05)
    assert abc.canary() == Canary("d", 0.05, "c")
    assert abc.current() == "c"
    assert promote(abc, CHECKS, at="noon") == "d"
    assert abc.history()[-1]["at"] == "noon"
    assert (abc.current(), abc.canary(), previous(abc)) == ("d", None, "c")


def test_a_promotion_that_was_killed_before_its_end_is_ended(abc: Store) -> None:
    report = make_release(abc, "d")
    try_out(abc, CHECKS, "d", 0.0)
    publish(abc, ValidatedRelease("d", report, "c"), CHECKS)
    moves = len(abc.history())
    assert promote(abc, CHECKS) == "d"
    assert abc.canary() is None
    assert len(abc.history()) == moves


def test_a_canary_replaces_new_lists_of_the_champion_it_was_tried_beside(abc: Store) -> None:
    make_release(abc, "d", model="m2")
    try_out(abc, CHECKS, "d", 0.05)
    live(abc, "e")
    assert promote(abc, CHECKS) == "d"
    assert (abc.current(), abc.canary(), previous(abc)) == ("d", None, "e")


def other_champion(store: Store) -> None:
    live(store, "e", model="m3")


@pytest.mark.parametrize("meanwhile", [other_champion, lambda store: rollback(store, CHECKS)])
def test_a_canary_replaces_no_champion_that_it_was_not_tried_beside(abc: Store, meanwhile: Callable[[Store], object]) -> None:
    make_release(abc, "d", model="m2")
    try_out(abc, CHECKS, "d", 0.05)
    meanwhile(abc)
    before = abc.current()
    with pytest.raises(
        Conflict, match=f"canary d was compared with c, but {before} is live now; .* `make canary RELEASE=d SHARE=`"
    ):
        promote(abc, CHECKS)
    assert (abc.current(), abc.canary()) == (before, Canary("d", 0.05, "c"))
    try_out(abc, CHECKS, "d", 0.05)
    assert promote(abc, CHECKS) == "d"


def test_a_promotion_demands_every_check(abc: Store) -> None:
    make_release(abc, "d")
    try_out(abc, CHECKS, "d", 0.05)
    with pytest.raises(RecsysError, match="no check result of drift"):
        promote(abc, [*CHECKS, "drift"])
    assert (abc.current(), abc.canary()) == ("c", Canary("d", 0.05, "c"))


def test_without_a_canary_nothing_is_promoted(abc: Store) -> None:
    with pytest.raises(RecsysError, match="no canary to promote"):
        promote(abc, CHECKS)


@pytest.mark.parametrize(
    ("release", "share", "words"),
    [("c", 0.1, "is live already"), ("x", 0.1, "is not in"), ("b", 1.1, "is not a share"), ("b", float("nan"), "is not a share")],
)
def test_what_cannot_be_a_canary_is_refused(abc: Store, release: str, share: float, words: str) -> None:
    with pytest.raises(RecsysError, match=words):
        try_out(abc, CHECKS, release, share)
    assert abc.canary() is None


def test_a_release_is_published_as_a_canary_by_the_same_door(abc: Store) -> None:
    report = make_release(abc, "d")
    with pytest.raises(RecsysError, match="no check result of drift"):
        publish(abc, ValidatedRelease("d", report, "c"), ["drift"], share=0.1)
    with pytest.raises(Conflict):
        publish(abc, ValidatedRelease("d", report, "b"), CHECKS, share=0.1)
    publish(abc, ValidatedRelease("d", report, "c"), CHECKS, share=0.1)
    assert (abc.current(), abc.canary()) == ("c", Canary("d", 0.1, "c"))
    abc.point_canary(None, "c")
    assert abc.canary() is None


# Listing


def test_every_release_is_listed_with_who_points_at_it_newest_first(abc: Store) -> None:
    make_release(abc, "d")
    try_out(abc, CHECKS, "d", 0.5)
    abc.pin("a")
    found = {one.id: one for one in listed(abc, make_settings())}
    assert set(found) == set("abcd")
    assert {id: one.roles for id, one in found.items()} == {"a": ["pinned"], "b": ["previous"], "c": ["live"], "d": ["canary"]}
    assert found["a"].as_of == date(2024, 2, 1)
    assert found["a"].days == ["2024-01-01", "2024-01-31"]
    assert found["a"].metrics == {"all_items": 0.375, "new_items": 0.375}
    assert abc.newest("release") == [one.id for one in listed(abc, make_settings())]
    for name in ("holdout.parquet", "release.json"):
        abc.backend.write(f"releases/a/{name}", b"?")
    assert {one.id: (one.metrics, one.as_of) for one in listed(abc, make_settings())}["a"] == ({}, None)


def test_a_manifest_that_cannot_be_read_keeps_nobody_from_listing_and_going_back(abc: Store) -> None:
    abc.backend.write("releases/b/manifest.json", b"{")
    assert {one.id: one.roles for one in listed(abc, make_settings())} == {"a": ["previous"], "c": ["live"]}
    with pytest.raises(RecsysError, match=r"releases/b/manifest.json in .* cannot be read \(JSONDecodeError"):
        rollback(abc, CHECKS, "b")
    assert rollback(abc, CHECKS) == "a"


def test_the_release_made_last_is_the_newest_whatever_its_id(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), "shop")
    for second, id in enumerate("bca"):
        make_release(store, id)
        os.utime(tmp_path / "shop" / "releases" / id / "manifest.json", (second, second))
    assert store.newest("release") == ["a", "c", "b"]


@pytest.mark.both_stores
def test_pins_are_set_and_taken_away(store: Store) -> None:
    make_release(store, "r")
    store.pin("r")
    store.pin("r")
    assert store.pins() == ["r"]
    store.pin("r", on=False)
    store.pin("r", on=False)
    assert store.pins() == []
    with pytest.raises(RecsysError, match="release x is not in"):
        store.pin("x")
