"""Publishing while others publish: only what was judged against this champion replaces it, with lists that are not older."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any

import pytest

from conftest import PROJECT, BuildOnce, make_settings
from recsys import pipeline
from recsys.pipeline import Selection
from recsys.publishing import publication
from recsys.publishing.lifecycle import rollback
from recsys.publishing.publication import ATTEMPTS, ValidatedRelease
from recsys.publishing.publication import publish as door
from recsys.releases import files
from recsys.settings.run import Settings
from recsys.store.backends import Conflict
from recsys.store.snapshots import Store, open_store
from recsys.validation.registry import required
from recsys.validation_report import CheckResult, ValidationReport

TODAY, EARLY, LATE = date(2026, 1, 1), date(2024, 10, 1), date(2024, 10, 8)


@dataclass
class Shop:
    """A store, features of two days, and two models of the first day."""

    store: Store
    settings: Settings
    raw: list[CheckResult]
    features: dict[date, str]
    selections: list[Selection]
    report: ValidationReport | None = None

    def make(self, model: int, day: date, champion: str | None = None) -> ValidatedRelease:
        """A release of a model's lists on a day, with the validation report of the first one."""
        settings = replace(self.settings, as_of=day)
        id = pipeline.recommend(self.store, self.selections[model], self.features[day], settings, {})
        release = self.store.load("release", id)
        selection, features = self.selections[model], self.features[day]
        if self.report is None:
            self.report = pipeline.validate(self.store, id, self.raw, selection, None, {}, TODAY, settings, PROJECT)
        report = replace(self.report, model=selection.model_id, features=features, content=release.manifest.content)
        self.store.attach_report(id, report.to_json())
        return ValidatedRelease(id, report, champion)

    def publish(self, candidate: ValidatedRelease, model: int) -> ValidatedRelease:
        relist = partial(
            pipeline.recommend_again, selection=self.selections[model], today=TODAY, settings=self.settings, project=PROJECT
        )
        return publication.publish(self.store, candidate, required(audit=False), on_conflict=relist, at="noon")

    def live(self, model: int, day: date) -> str:
        """Publishes a model's lists as another run does."""
        made = self.make(model, day)
        door(self.store, ValidatedRelease(made.id, made.report, self.store.current()), required(audit=False))
        return made.id


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, build_once: BuildOnce) -> Shop:
    small = {"training_windows": 1}
    settings = make_settings(features=small, evaluation={"selection_windows": 1}, as_of=EARLY.isoformat())
    settings = replace(settings, recommenders={"popularity": {"days": 7}, "repeat_purchase": {}})
    store = open_store(str(tmp_path_factory.mktemp("store")), "shop")
    raw, results = pipeline.land(store, replace(settings, as_of=None), TODAY)
    features = {day: build_once(store, raw, replace(settings, as_of=day)) for day in (EARLY, LATE)}
    trained = [pipeline.train(store, one, features[EARLY], {}, settings) for one in pipeline.recipes(settings, audit=False)]
    evaluations = pipeline.select(trained, settings).evaluations
    selections = [
        Selection(one.recipe.name, one.model_id, evaluations, {}, []) for one in reversed(trained)
    ]  # the better one first
    return Shop(store, settings, results, features, selections)


def test_where_the_lists_of_the_champion_are_newer_the_challenger_lists_again(shop: Shop) -> None:
    champion = shop.live(0, EARLY)
    challenger = shop.make(1, EARLY, champion)
    other = shop.live(0, LATE)
    published = shop.publish(challenger, 1)
    made = shop.store.load("release", published.id)
    assert (published.replaces, shop.store.current()) == (other, published.id)
    assert published.id != challenger.id
    assert files.as_of(made) == LATE
    assert made.manifest.parents == {"model": shop.selections[1].model_id, "features": shop.features[LATE]}
    assert published.report.on_model == challenger.report.on_model
    assert {result.name for result in published.report.on_data["list_stability"]} > {"list_stability_users", "list_stability_items"}
    assert shop.store.report(published.id) == published.report.to_json()
    assert shop.store.history()[-1].items() >= {"instead_of": challenger.id, "at": "noon"}.items()


def test_listing_again_is_found_after_a_kill_even_after_a_rollback(shop: Shop) -> None:
    challenger = shop.make(1, EARLY, shop.live(0, EARLY))
    other = shop.live(0, LATE)
    published = shop.publish(challenger, 1)
    assert shop.publish(challenger, 1) == published
    assert shop.store.current() == published.id
    rollback(shop.store, required(audit=False))
    assert shop.publish(challenger, 1) == published
    assert shop.store.current() == other


def test_where_they_are_as_old_it_only_tries_again(shop: Shop) -> None:
    champion = shop.live(0, EARLY)
    challenger = shop.make(1, EARLY, champion)
    other = shop.live(0, EARLY)
    assert shop.publish(challenger, 1) == replace(challenger, replaces=other)
    assert shop.store.history()[-1]["previous"] == other


def test_a_release_that_gives_way_returns_the_live_one_with_its_own_report(shop: Shop) -> None:
    champion = shop.live(0, EARLY)
    daily, other = shop.make(0, EARLY, champion), shop.make(0, LATE, champion)
    door(shop.store, other, required(audit=False))
    assert door(shop.store, daily, required(audit=False), on_conflict=publication.give_way) == other
    assert shop.store.current() == other.id


def other_model(shop: Shop) -> None:
    shop.live(1, EARLY)


def back(shop: Shop) -> None:
    rollback(shop.store, required(audit=False))


@pytest.mark.parametrize("meanwhile", [other_model, back])
def test_another_champion_and_a_rollback_are_a_conflict(shop: Shop, meanwhile: Callable[[Shop], None]) -> None:
    shop.live(0, EARLY)
    champion = shop.live(0, EARLY)
    challenger = shop.make(1, EARLY, champion)
    meanwhile(shop)
    live = shop.store.current()
    with pytest.raises(Conflict, match=r"during this run.*nothing was lost: run again"):
        shop.publish(challenger, 1)
    assert shop.store.current() == live


def test_who_always_comes_second_gives_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    challenger, others = shop.make(1, EARLY, shop.live(0, EARLY)), []

    move = publication._move

    def beaten(*arguments: Any) -> None:
        monkeypatch.setattr(publication, "_move", move)
        others.append(shop.live(0, EARLY))
        monkeypatch.setattr(publication, "_move", beaten)
        move(*arguments)

    monkeypatch.setattr(publication, "_move", beaten)
    with pytest.raises(Conflict):
        shop.publish(challenger, 1)
    assert len(others) == ATTEMPTS
    assert shop.store.current() == others[-1]


def test_publishing_again_after_a_kill_does_nothing_twice_even_after_a_rollback(shop: Shop) -> None:
    champion = shop.live(0, EARLY)
    challenger = shop.make(1, EARLY, champion)
    assert shop.publish(challenger, 1) == challenger
    assert shop.publish(challenger, 1) == challenger
    assert shop.store.current() == challenger.id
    rollback(shop.store, required(audit=False))
    assert shop.publish(challenger, 1) == challenger
    assert shop.store.current() == champion
