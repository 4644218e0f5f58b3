"""Sabotage: whatever is done to a release, a verdict that names it keeps the release out, and the live one stays."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import PROJECT, make_settings, peeking_project
from recsys import RecsysError, pipeline, rehearsal, trees
from recsys.checks import FAMILIES, check_config, required
from recsys.pipeline import Choice, Recipe
from recsys.publishing import publish
from recsys.recommenders import load
from recsys.settings import Settings
from recsys.store import Store, open_store
from recsys.verdicts import Evidence, Verdict

pytestmark = pytest.mark.slow
TODAY = date(2026, 1, 1)
SMALL = {"dials": {"users": 600, "items": 150, "days": 300, "events": 60_000, "first_day": "2024-01-01", "seed": 3}}


@dataclass(frozen=True)
class Shop:
    """A store with a healthy release that is live, and what led to it."""

    store: Store
    settings: Settings
    raw_id: str
    features: str
    rehearsed: dict[str, str]
    choice: Choice
    live: str


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    settings = make_settings(dataset=SMALL, evidence={"seeds": 2, "resamples": 1})
    store = open_store(str(tmp_path_factory.mktemp("store")), "shop")
    raw_id, _ = pipeline.land(store, settings, TODAY)
    features = pipeline.build_features(store, raw_id, settings, PROJECT).id
    rehearsed = pipeline.rehearse(store, features, settings, PROJECT)
    trained = [pipeline.train(store, recipe, features, rehearsed, settings) for recipe in pipeline.recipes(settings, audit=True)]
    choice = pipeline.choose(trained, settings)
    made = Shop(store, settings, raw_id, features, rehearsed, choice, "")
    live = release(made, None)
    yield replace(made, live=live)
    assert store.current() == live


def release(shop: Shop, expected: str | None, **changed: Any) -> str:
    """The last steps of an audited run, with something changed: release, evidence, pointer. Returns the release's id."""
    made = replace(shop, **changed)
    id = pipeline.recommend(made.store, made.choice, made.features, made.settings, {})
    evidence = evidence_on(made, id, expected)
    publish(made.store, id, evidence, expected, required(audit=True))
    return id


def evidence_on(shop: Shop, id: str, champion: str | None) -> Evidence:
    _, raw_verdicts = pipeline.land(shop.store, make_settings(dataset=SMALL), TODAY)
    seen = (raw_verdicts, shop.choice, champion, shop.rehearsed, TODAY)
    return pipeline.validate(shop.store, id, *seen, shop.settings, PROJECT)


def assert_stopped(shop: Shop, verdict: str, **changed: Any) -> None:
    """A release with something changed is refused by a verdict of this name."""
    with pytest.raises(RecsysError, match=rf"\[{verdict}"):
        release(shop, shop.live, **changed)
    assert shop.store.current() == shop.live


def retrained(shop: Shop, name: str) -> Choice:
    """The choice of a run that this recommender has won."""
    recipe = Recipe(name, shop.settings.recommenders[name])
    trained = pipeline.train(shop.store, recipe, shop.features, shop.rehearsed, shop.settings)
    evaluations, stress = shop.choice.evaluations | {name: trained.windows}, shop.choice.stress | {name: trained.stress}
    return Choice(name, trained.model_id, evaluations, stress, [])


def test_a_healthy_release_is_published(shop: Shop) -> None:
    assert shop.store.current() == shop.live


def test_shuffled_labels(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = trees.fit

    def fit_shuffled(columns: Any, labels: Any, weights: Any, *rest: Any) -> Any:
        order = np.random.default_rng(0).permutation(len(labels))
        return fit(columns, labels[order], weights[order], *rest)

    with monkeypatch.context() as patch:
        patch.setattr(trees, "fit", fit_shuffled)
        choice = retrained(shop, "two_stage")
    assert_stopped(shop, "allow_not_worse_than_champion", choice=choice)


def test_a_future_leak_through_a_feature(shop: Shop, tmp_path: Path) -> None:
    project = peeking_project(tmp_path / "dbt_project")
    features = pipeline.build_features(shop.store, shop.raw_id, shop.settings, project).id
    rehearsed = pipeline.rehearse(shop.store, features, shop.settings, project)
    leaking = replace(shop, features=features, rehearsed=rehearsed)
    choice = retrained(leaking, "popularity")
    assert_stopped(leaking, "features_of_that_day", choice=choice)


def test_popularity_relabelled_as_the_winner(shop: Shop) -> None:
    assert_stopped(shop, "allow_same_list", choice=replace(shop.choice, model_id=retrained(shop, "popularity").model_id))


def test_half_the_catalogue_gone(shop: Shop) -> None:
    items = "select * replace (is_available and md5(item_id) < '8' as is_available) from items"
    assert_stopped(shop, "catalogue_turnover", **rebuilt(shop, items=items))


def test_prices_times_a_hundred(shop: Shop) -> None:
    times = "case when event_at > (select max(event_at) from events) - interval 28 day then 100 else 1 end"
    assert_stopped(shop, "prices", **rebuilt(shop, events=f"select * replace ({times} * price as price) from events"))


def rebuilt(shop: Shop, **disturbed: str) -> dict[str, Any]:
    """Features and choice of a run on disturbed raw data, which recent popularity has won."""
    features = pipeline.open_features(shop.store, shop.features, shop.settings)
    raw_id = rehearsal.replay(shop.store, features, shop.settings, features.as_of, disturbed)
    settings = replace(shop.settings, dataset=replace(shop.settings.dataset, source="events"), as_of=features.as_of)
    built = replace(shop, settings=settings, features=pipeline.build_features(shop.store, raw_id, settings, PROJECT).id)
    choice = retrained(built, "popularity")
    return {"settings": settings, "features": built.features, "choice": choice}


def test_one_slice_destroyed(shop: Shop) -> None:
    """Whoever has bought most gets lists that hold nothing of what they buy."""
    features = pipeline.open_features(shop.store, shop.features, shop.settings)
    state = features.state(features.evaluated[0])
    window = shop.choice.evaluations[shop.choice.winner]["allow"][0]
    baskets = state.users["baskets"][state.rows(window.users)]
    kept = baskets < np.quantile(baskets, 2 / 3)
    spoilt = replace(window, scores={metric: values * kept for metric, values in window.scores.items()})
    windows = shop.choice.evaluations[shop.choice.winner]
    evaluations = shop.choice.evaluations | {shop.choice.winner: windows | {"allow": [spoilt, *windows["allow"][1:]]}}
    assert_stopped(shop, "allow_slices_not_worse", choice=replace(shop.choice, evaluations=evaluations))


def test_constant_scores(shop: Shop) -> None:
    healthy = shop.store.load("model", shop.choice.model_id)
    model = load(healthy.path)
    model.nodes_["value"] = 0  # type: ignore[attr-defined]
    with shop.store.draft() as folder:
        model.save(folder)
        id = shop.store.commit(folder, "model", healthy.manifest.made_from, {"features": shop.features}).id
    assert_stopped(shop, "constant_scores", choice=replace(shop.choice, model_id=id))


def test_evidence_edited_by_hand(shop: Shop) -> None:
    id = pipeline.recommend(shop.store, shop.choice, shop.features, shop.settings, {})
    evidence = evidence_on(shop, id, shop.live)
    shop.store.attach_evidence(id, evidence.to_json().replace(b"allow_users_served", b"allow_users_serve"))
    with pytest.raises(RecsysError, match="not what its checks wrote"):
        publish(shop.store, id, evidence, shop.live, required(audit=True))
    assert shop.store.current() == shop.live


def test_evidence_of_another_run(shop: Shop) -> None:
    id = pipeline.recommend(shop.store, shop.choice, shop.features, shop.settings, {})
    other = replace(evidence_on(shop, id, shop.live), content="of another run")
    shop.store.attach_evidence(id, other.to_json())
    with pytest.raises(RecsysError, match="not of release"):
        publish(shop.store, id, other, shop.live, required(audit=True))
    assert shop.store.current() == shop.live


@pytest.mark.parametrize("family", make_settings().checks)
def test_a_missing_threshold(family: str, shop: Shop) -> None:
    name, *_ = shop.settings.checks[family]
    spoilt = {dial: value for dial, value in shop.settings.checks[family].items() if dial != name}
    with pytest.raises(RecsysError, match=rf"checks\.{family}\.{name}.* is missing"):
        check_config(replace(shop.settings, checks=shop.settings.checks | {family: spoilt}))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_that_has_not_spoken(family: str, shop: Shop) -> None:
    evidence = Evidence.from_json(shop.store.evidence(shop.live) or b"")
    silent = replace(evidence, on_data=without(evidence.on_data, family), on_model=without(evidence.on_model, family))
    with pytest.raises(RecsysError, match=f"no verdict of {family}"):
        publish(shop.store, shop.live, silent, shop.live, required(audit=True))


def without(verdicts: dict[str, list[Verdict]], family: str) -> dict[str, list[Verdict]]:
    return {name: found for name, found in verdicts.items() if name != family}
