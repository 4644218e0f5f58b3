"""Daily lists of the champion's model: the same bytes from any number of shards, judged anew, and published by the one door."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from conftest import PROJECT, BuildOnce, make_settings
from recsys import RecsysError, daily_lists, pipeline
from recsys.daily_lists import Champion, champion, check_target, gather, recommend, shards, validate
from recsys.evaluation.sessions import REPEATS
from recsys.publishing import publication
from recsys.publishing.lifecycle import rollback
from recsys.publishing.publication import ValidatedRelease, give_way
from recsys.recommenders import base
from recsys.recommenders.registry import load
from recsys.releases import files
from recsys.releases.business_rules import BusinessRules
from recsys.releases.session_index import SIMILARITIES, SessionAnswers
from recsys.settings.run import Settings
from recsys.store.snapshots import Store, describe, open_store
from recsys.validation import expected_changes
from recsys.validation.expected_changes import ExpectedChange
from recsys.validation.registry import required
from recsys.validation_report import CheckResult, ValidationReport, require

TODAY = date(2026, 1, 1)
Shop = tuple[Store, Settings, list[CheckResult], str]


def publish(store: Store, release: str, report: ValidationReport, champion: Champion, settings: Settings) -> str:
    """As RecommendFlow does."""
    validated = ValidatedRelease(release, report, champion.release)
    return publication.publish(store, validated, daily_lists.required(report, settings), on_conflict=give_way).id


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, build_once: BuildOnce) -> Shop:
    """A store where what was trained on 1 October is live; settings, raw check results and serving features of 8 October."""
    settings = make_settings(features={"training_windows": 1}, evaluation={"selection_windows": 1, "bootstraps": 50})
    settings = replace(settings, recommenders={"popularity": {"days": 7}, "repeat_purchase": {}})
    store = open_store(str(tmp_path_factory.mktemp("store")), "shop")
    _train(store, replace(settings, as_of=date(2024, 10, 1)), build_once)
    later = replace(settings, as_of=date(2024, 10, 8))
    raw, results = pipeline.land(store, later, TODAY)
    return store, later, results, build_once(store, raw, later, serving=True)


def _train(store: Store, settings: Settings, build_once: BuildOnce) -> None:
    raw, results = pipeline.land(store, settings, TODAY)
    features = build_once(store, raw, settings)
    recipes = pipeline.recipes(settings, audit=False)
    sessions = pipeline.select_sessions(store, features, settings)
    selection = pipeline.select([pipeline.train(store, recipe, features, {}, settings) for recipe in recipes], settings, sessions)
    id = pipeline.recommend(store, selection, features, settings, {})
    report = pipeline.validate(store, id, results, selection, None, {}, TODAY, settings, PROJECT)
    publication.publish(store, ValidatedRelease(id, report, None), required(audit=False))


def make(shop: Shop, per_shard: int = 2_000, asked: Settings | None = None) -> tuple[str, Champion, int]:
    store, settings, _, features = shop
    settings = asked or settings
    live, rows = champion(store), shards(store, features, per_shard, settings)
    parts = [recommend(store, live, features, one, settings) for one in rows]
    return gather(store, live, features, parts, settings, {}), live, len(rows)


def judge(shop: Shop, release: str, live: Champion, settings: Settings | None = None) -> ValidationReport:
    store, usual, results, _ = shop
    return validate(store, release, live, results, TODAY, settings or usual, PROJECT)


@pytest.fixture(scope="module")
def judged(shop: Shop) -> tuple[str, Champion, ValidationReport]:
    """Lists of the champion's model, the champion, and the report on the lists."""
    release, live, _ = make(shop)
    return release, live, judge(shop, release, live)


def make_judged(shop: Shop, judged: tuple[str, Champion, ValidationReport]) -> tuple[str, Champion, ValidationReport]:
    """Another release of the same content, which the same report is about."""
    (release, live, _), (*_, report) = make(shop), judged
    shop[0].attach_report(release, report.to_json())
    return release, live, report


def test_any_number_of_shards_gives_the_same_bytes_as_none(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, daily_lists):
        monkeypatch.setattr(module, "CHUNK", 50)
    (one, _, whole), (other, _, several) = make(shop, 1_000), make(shop, 70)
    assert (whole, several) == (1, 5)
    first, second = (shop[0].find("release", id) for id in (one, other))
    assert first
    assert second
    assert first.files == second.files
    store, settings, _, features = shop
    rules = BusinessRules(pipeline.open_features(store, features, settings).state(date(2024, 10, 8)), settings)
    model = load(store.load("model", first.parents["model"]).path)
    counts = files.write_ranked(tmp_path, model, {}, rules, rules.state.user_ids)
    sessions = files.session_answers(store.load("release", champion(store).release), settings)
    files.write_others(tmp_path, model.name, counts, rules, settings, date(2024, 10, 1), sessions)
    assert describe(tmp_path) == {name: file for name, file in first.files.items() if name != "holdout.parquet"}


def test_the_holdout_is_the_champions(shop: Shop) -> None:
    release, live, _ = make(shop)
    made, proven = (shop[0].find("release", id) for id in (release, live.release))
    assert made
    assert proven
    assert made.files["holdout.parquet"] == proven.files["holdout.parquet"]


def test_sessions_are_answered_as_the_training_chose(shop: Shop) -> None:
    store = shop[0]
    release, live, _ = make(shop)
    trained, daily = (files.about(store.load("release", id)) for id in (live.release, release))
    assert trained["session_similarity"] in SIMILARITIES[1:]
    assert trained["session_repeats"] == REPEATS
    assert all(daily[name] == trained[name] for name in ("session_similarity", "session_repeats"))
    assert "session_neighbours.npz" in store.load("release", release).manifest.files


def test_a_setting_about_sessions_counts_from_the_next_daily_run_on(shop: Shop) -> None:
    store, settings, *_ = shop
    asked = replace(settings, lists=replace(settings.lists, session_repeats=3))
    release, live, _ = make(shop, asked=asked)
    assert files.about(store.load("release", release))["session_repeats"] == 3
    report = judge(shop, release, live, asked)
    assert all(result.passed for result in report.checks["released"])


@pytest.mark.parametrize(
    ("facts", "has_index", "expected"),
    [
        ({}, False, SessionAnswers("item_to_item", 0)),
        ({}, True, SessionAnswers("session_items", 0)),
        ({"session_repeats": 5}, True, SessionAnswers("session_items", 5)),
        ({"session_repeats": 5, "session_similarity": "smoothed_session"}, True, SessionAnswers("smoothed_session", 5)),
    ],
)
def test_an_older_release_that_is_live_goes_on_answering_sessions_its_way(
    shop: Shop, tmp_path: Path, facts: dict[str, Any], has_index: bool, expected: SessionAnswers
) -> None:
    store, settings, *_ = shop
    live = store.load("release", champion(store).release)
    about = {name: value for name, value in files.about(live).items() if "session" not in name} | facts
    (tmp_path / "release.json").write_text(json.dumps(about))
    if has_index:
        (tmp_path / "session_neighbours.npz").touch()
    assert files.session_answers(replace(live, path=tmp_path), settings) == expected


def test_data_and_lists_are_judged_anew_and_the_model_by_the_champions_report(
    shop: Shop, judged: tuple[str, Champion, ValidationReport]
) -> None:
    store, (_, live, report) = shop[0], judged
    proven = ValidationReport.read(store.report(live.release))
    assert proven
    assert report.on_model == proven.on_model
    assert report.on_data.keys() == proven.on_data.keys()
    assert report.on_data != proven.on_data
    require(report.checks, daily_lists.required(report, shop[1]), "report")


def test_lists_of_a_model_that_is_too_old_are_not_published(shop: Shop) -> None:
    store, settings, *_ = shop
    release, live, _ = make(shop)
    strict = _allow_days(settings, 6, 0)
    report = judge(shop, release, live, strict)
    with pytest.raises(RecsysError, match=r"7 days before 2024-10-08.*`make run`"):
        publish(store, release, report, live, shop[1])
    assert store.current() == live.release


def _allow_days(settings: Settings, normal: int, more: int) -> Settings:
    """Settings by which a model of more than `normal` days warns, and blocks `more` days later."""
    freshness = settings.checks["freshness"] | {"block_model_days": more}
    return replace(
        settings,
        validation=replace(settings.validation, max_model_age_days=normal),
        checks=settings.checks | {"freshness": freshness},
    )


def test_lists_of_an_old_model_go_on_with_a_warning_where_no_training_was_published(shop: Shop) -> None:
    release, live, _ = make(shop)
    (aged,) = (one for one in judge(shop, release, live, _allow_days(shop[1], 6, 1)).results if one.name == "model_age")
    assert (aged.passed, aged.severity, aged.suspect) == (False, "warn", "model")
    assert "validation.max_model_age_days" in aged.setting


def test_a_refused_training_stops_no_daily_lists_and_refused_lists_stop_no_training(
    shop: Shop, judged: tuple[str, Champion, ValidationReport]
) -> None:
    (store, settings, *_), (release, live, report) = shop, make_judged(shop, judged)
    bad = CheckResult("worse", 1, 0, "block", False, "worse than before")
    for refused in (replace(report, on_model={"baseline": [bad]}), replace(report, on_data={"lists": [bad]})):
        other, _, _ = make(shop)
        store.attach_report(other, refused.to_json())
        with pytest.raises(RecsysError, match="worse than before"):
            publication.publish(store, ValidatedRelease(other, refused, live.release), [])
    assert publish(store, release, report, live, settings) == release == store.current()
    rollback(store, required(audit=False))


def test_checks_only_warn_where_the_store_knows_of_an_expected_change(shop: Shop) -> None:
    store, settings, *_ = shop
    list_stability = settings.checks["list_stability"] | {"warn_changed": 0.0, "block_changed": 0.0}
    strict = replace(settings, checks=settings.checks | {"list_stability": list_stability})
    sale = ExpectedChange("shop", date(2024, 10, 7), date(2024, 10, 9), "volume", "sale")
    release, live, _ = make(shop)
    with pytest.raises(RecsysError, match=r"\[list_stability_items\].*`make expect FROM=2024-09-10 TO=2024-10-07 KIND=volume"):
        require(judge(shop, release, live, strict).checks, [], "report")
    expected_changes.record(store, sale)
    found = judge(shop, release, live, strict)
    require(found.checks, [], "report")
    assert {one.name: one.expected for one in found.results if one.expected} == {
        "list_stability_items": "sale, 2024-10-07 to 2024-10-09"
    }
    expected_changes.record(store, sale, off=True)


def test_lists_are_served_as_the_model_was_chosen_until_the_next_training(shop: Shop) -> None:
    store, settings, *_ = shop
    other = replace(settings, dataset=replace(settings.dataset, exclude_seen=True))
    release, live, _ = make(shop, asked=other)
    assert not files.about(store.load("release", release))["exclude_seen"]
    (warning,) = (result for result in judge(shop, release, live, other).results if result.name == "exclude_seen_of_the_model")
    assert (warning.passed, warning.severity) == (False, "warn")
    assert "chosen with exclude_seen = false" in warning.message


def test_a_model_of_another_target_makes_no_lists(shop: Shop) -> None:
    store, settings, *_ = shop
    other = replace(settings, dataset=replace(settings.dataset, target="view"))
    with pytest.raises(RecsysError, match=r'the live model predicts "purchase", but the target is "view" now; `make run` first'):
        check_target(champion(store), other)


def test_where_audits_have_become_a_must_lists_of_a_model_without_one_are_not_published(
    shop: Shop, judged: tuple[str, Champion, ValidationReport]
) -> None:
    (store, settings, *_), (release, live, report) = shop, make_judged(shop, judged)
    strict = replace(settings, validation=replace(settings.validation, audit=True))
    with pytest.raises(RecsysError, match=r"no check result of .*seeds"):
        publish(store, release, report, live, strict)
    assert store.current() == live.release


def test_without_a_live_release_there_is_nothing_to_list_with(tmp_path: Path) -> None:
    with pytest.raises(RecsysError, match="`make run` first"):
        champion(open_store(str(tmp_path), "shop"))


def test_publishing_again_after_a_kill_does_nothing_twice_even_after_a_rollback(
    shop: Shop, judged: tuple[str, Champion, ValidationReport]
) -> None:
    store, (release, live, report) = shop[0], make_judged(shop, judged)
    assert publish(store, release, report, live, shop[1]) == release == store.current()
    assert champion(store).proven_by == live.release
    assert publish(store, release, report, live, shop[1]) == release
    rollback(store, required(audit=False))
    publish(store, release, report, live, shop[1])
    assert store.current() == live.release


def test_of_two_runs_at_once_the_lists_that_know_as_many_days_stay(shop: Shop) -> None:
    store = shop[0]
    (one, live, _), (other, _, _) = make(shop), make(shop)
    assert publish(store, one, judge(shop, one, live), live, shop[1]) == one
    assert publish(store, other, judge(shop, other, live), live, shop[1]) == one == store.current()
    rollback(store, required(audit=False))
