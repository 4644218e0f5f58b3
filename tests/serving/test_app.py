"""The service over a store with one live release."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, patch

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from conftest import make_settings, wait
from recsys.releases.reader import Reader
from recsys.serving import impressions, schemas
from recsys.serving.app import Service
from recsys.store.snapshots import Store, open_store
from recsys.validation.check_input import CheckInput
from serving_shop import URL, publish_copy, serving


@pytest.fixture
def service(shop: Store) -> Service:
    return Service(shop, serving(make_settings()))


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(service.app(), URL) as client:
        yield client


@pytest.fixture
def user(inputs: CheckInput) -> str:
    return str(inputs.state.user_ids[3])


def items(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    schemas.Recommendations.model_validate_json(answer.content)
    return [item["item_id"] for item in answer.json()["items"]]


def test_a_users_list_tells_its_release_and_source(client: TestClient, service: Service, user: str) -> None:
    answer = client.get(f"/v1/users/{user}/recommendations", params={"k": 5})
    reader = service.live.current
    assert reader is not None
    assert items(answer) == [reader.item_ids[item] for item in reader.recommend(user, 5).items]
    told = answer.json()
    assert (told["release"], told["source"]) == ("first", "personal")


@pytest.mark.parametrize("max_age_days", [0, 2])
def test_a_release_grows_old_unless_its_history_is_closed(shop: Store, max_age_days: int) -> None:
    service = Service(shop, serving(make_settings(dataset={"max_age_days": max_age_days})))
    with TestClient(service.app(), URL) as client:
        reader = service.live.current
        assert reader is not None
        age = (datetime.now(UTC).date() - reader.as_of).days if max_age_days else 0
        assert client.get("/v1/users/nobody/recommendations").json()["age_days"] == age


def test_the_list_kind_can_be_chosen(client: TestClient, service: Service, user: str) -> None:
    reader = service.live.current
    assert reader is not None
    found = client.get(f"/v1/users/{user}/recommendations", params={"list_kind": "new_items"})
    assert items(found) == [reader.item_ids[item] for item in reader.recommend(user, 10, "new_items").items]


@pytest.mark.parametrize("stranger", ["nobody", "007", "a/b", "☂", "'; drop table lists", '"', "a b"])
def test_any_id_is_answered(client: TestClient, stranger: str) -> None:
    from urllib.parse import quote

    answer = client.get(f"/v1/users/{quote(stranger, safe='')}/recommendations")
    assert items(answer)
    assert answer.json()["source"] == "popular"


def test_a_stranger_of_a_segment_gets_its_list(client: TestClient, inputs: CheckInput) -> None:
    segment = str(inputs.state.users["segment"][0])
    assert client.get("/v1/users/nobody/recommendations", params={"segment": segment}).json()["source"] == "segment"


def test_reasons_are_told_when_asked_for(client: TestClient, user: str) -> None:
    answer = client.get(f"/v1/users/{user}/recommendations", params={"reasons": True})
    assert items(answer)
    assert all(item["reason"]["kind"] for item in answer.json()["items"])


def test_a_session_is_answered_with_its_earlier_items_but_not_the_last(client: TestClient, user: str) -> None:
    seen = items(client.get("/v1/users/nobody/recommendations", params={"k": 3}))
    found = client.post("/v1/sessions/recommendations", json={"items": [*seen, "no such item"], "user_id": user, "k": 7})
    assert len(items(found)) == 7
    assert items(found)[:2] == [seen[1], seen[0]]
    assert seen[2] not in items(found)


def test_a_session_of_unknown_items_is_not_found(client: TestClient) -> None:
    assert client.post("/v1/sessions/recommendations", json={"items": ["x"]}).status_code == 404


def test_similar_items_are_listed_and_an_unknown_one_is_not_found(client: TestClient) -> None:
    item = items(client.get("/v1/users/nobody/recommendations", params={"k": 1}))[0]
    assert item not in items(client.get(f"/v1/items/{item}/similar"))
    assert client.get("/v1/items/nothing/similar").status_code == 404


def test_a_request_may_exclude_items_and_choose_categories(client: TestClient, service: Service, user: str) -> None:
    reader = service.live.current
    assert reader is not None
    listed = [reader.item_ids[row] for row in range(len(reader.item_ids)) if reader.listed[row]]
    category = reader.item(listed[0])["category"]
    excluded = listed[:2]
    wanted = {id for id in listed if reader.item(id)["category"] == category} - {*excluded}
    params: dict[str, Any] = {"exclude": [*excluded, "no such item"], "category": [category, "no such category"], "k": 5}
    body = {"items": excluded, "user_id": user, **params}
    for answer in (
        client.get(f"/v1/users/{user}/recommendations", params=params),
        client.get(f"/v1/items/{listed[-1]}/similar", params=params),
        client.post("/v1/sessions/recommendations", json=body),
    ):
        assert set(items(answer)) <= wanted
        assert len(items(answer)) == 5
        assert answer.json()["unknown_categories"] == ["no such category"]


def test_an_unknown_category_gives_an_empty_list_that_says_why(client: TestClient, user: str) -> None:
    answer = client.get(f"/v1/users/{user}/recommendations", params={"category": "no such category"})
    assert items(answer) == []
    assert (answer.json()["source"], answer.json()["unknown_categories"]) == ("none", ["no such category"])


def test_without_a_filter_nothing_is_said_about_categories(client: TestClient, user: str) -> None:
    assert "unknown_categories" not in client.get(f"/v1/users/{user}/recommendations").json()


def test_what_a_user_did_since_the_release_counts(client: TestClient, user: str) -> None:
    path = f"/v1/users/{user}/recommendations"
    new_items: dict[str, Any] = {"list_kind": "new_items", "reasons": True}
    seen = items(client.get(path, params=new_items))[:2]
    answer = client.get(path, params=new_items | {"seen": [*seen, "no such item"]})
    assert len(items(answer)) == 10
    assert not set(items(answer)) & set(seen)
    assert answer.json()["source"] == "session"
    assert {item["reason"]["item_id"] for item in answer.json()["items"]} & set(seen)


def test_the_demo_knows_users_histories_models_and_releases(client: TestClient, user: str) -> None:
    assert user in client.get("/v1/users", params={"prefix": user}).json()
    schemas.UserProfile.model_validate_json(client.get(f"/v1/users/{user}/history").content)
    assert client.get("/v1/users/nobody/history").status_code == 404
    models = TypeAdapter(list[schemas.Model]).validate_json(client.get("/v1/models").content)
    assert [(model.name, model.default) for model in models] == [("two_stage", True)]
    releases = TypeAdapter(list[schemas.Release]).validate_json(client.get("/v1/releases").content)
    assert [(release.release, release.live) for release in releases] == [("first", True)]


def test_the_demo_knows_users_to_try_with_the_best_lists_for_them(client: TestClient, inputs: CheckInput) -> None:
    examples = TypeAdapter(list[schemas.Example]).validate_json(client.get("/v1/examples").content)
    assert {"active", "typical", "newcomer", "segment"} == {example.why for example in examples}
    segments = {example.segment for example in examples if example.why == "segment"}
    assert segments == set(inputs.state.users["segment"].tolist()) - {"unknown"}  # that of bots, who buy nothing
    assert all(len(example.oracle["all_items"]) == len(example.oracle["new_items"]) == 10 for example in examples)


def test_another_release_can_be_asked_in_the_demo(client: TestClient, shop: Store, inputs: CheckInput, user: str) -> None:
    publish_copy(shop, inputs, "second")
    shop.point("first", "second")
    assert client.get(f"/v1/users/{user}/recommendations", params={"release": "second"}).json()["release"] == "second"
    assert client.get(f"/v1/users/{user}/recommendations", params={"release": "none"}).status_code == 404


def test_without_the_demo_nothing_tells_of_users(shop: Store, user: str) -> None:
    with TestClient(Service(shop, serving(make_settings(), demo=False)).app(), URL) as client:
        for path in ("/", "/v1/users", "/v1/examples", f"/v1/users/{user}/history", "/v1/releases"):
            assert client.get(path).status_code == 404
        assert client.get(f"/v1/users/{user}/recommendations", params={"release": "first"}).status_code == 404


@pytest.mark.parametrize(
    "params",
    [
        {"k": 0},
        {"k": 101},
        {"k": "x"},
        {"list_kind": "all"},
        {"segment": "x" * 201},
        {"exclude": ["x"] * 301},
        {"seen": ["x"] * 51},
    ],
)
def test_what_is_out_of_bounds_is_refused_without_repeating_it(client: TestClient, params: dict[str, Any]) -> None:
    answer = client.get("/v1/users/u1/recommendations", params=params)
    assert answer.status_code == 422
    assert "input" not in answer.text


def test_ids_and_bodies_have_bounds(client: TestClient) -> None:
    assert client.get(f"/v1/users/{'x' * 201}/recommendations").status_code == 422
    assert client.post("/v1/sessions/recommendations", json={"items": ["x"] * 51}).status_code == 422
    assert client.post("/v1/sessions/recommendations", json={"items": ["x" * 100_000]}).status_code == 413


def test_without_a_release_it_lives_but_is_not_ready(tmp_path: Path) -> None:
    with TestClient(Service(open_store(str(tmp_path), "shop"), serving(make_settings())).app(), URL) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert client.get("/v1/users/u1/recommendations").status_code == 503
        assert client.post("/v1/sessions/recommendations", json={"items": ["x"]}).status_code == 503


def test_keys_guard_all_that_tells_of_the_shop(service: Service) -> None:
    with TestClient(service.app(keys=["k" * 16, "l" * 16]), URL) as client:
        for path in ("/v1/users/u1/recommendations", "/v1/items/i1/similar", "/v1/models", "/metrics", "/v1/users", "/nothing"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"X-API-Key": "k" * 15}).status_code == 401
            assert client.get(path, headers={"X-API-Key": "l" * 16}).status_code in (200, 404)
        for path in ("/", "/healthz", "/readyz", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_metrics_count_by_route_and_name_no_user(client: TestClient, user: str) -> None:
    client.get(f"/v1/users/{user}/recommendations")
    client.get("/nothing")
    told = client.get("/metrics").text
    assert 'recs_requests_total{route="/v1/users/{user_id}/recommendations",status="200"} 1.0' in told
    assert 'recs_requests_total{route="none",status="404"} 1.0' in told
    assert 'recs_answers_total{release="first",source="personal"} 1.0' in told
    assert 'recs_release{model="two_stage",pointer="current",release="first"} 1.0' in told
    assert user not in told


def test_what_was_shown_is_kept_and_names_nobody(client: TestClient, service: Service, shop: Store, user: str) -> None:
    shown = items(client.get(f"/v1/users/{user}/recommendations", params={"k": 3}))
    assert service.impressions is not None
    service.impressions.flush()
    (found,) = impressions.read(shop, datetime.now(UTC).date())
    assert (found.items, found.release, found.source) == (shown, "first", "personal")
    assert found.user == impressions.hash_user(user, impressions.salt(shop)) != user


def test_what_was_shown_is_written_when_the_service_stops(service: Service, shop: Store, user: str) -> None:
    with TestClient(service.app(), URL) as client:
        client.get(f"/v1/users/{user}/recommendations")
    assert len(list(impressions.read(shop, datetime.now(UTC).date()))) == 1


def test_every_route_but_the_open_ones_says_that_it_needs_a_key(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert described["components"]["securitySchemes"]
    guarded = {path for path, methods in described["paths"].items() if all("security" in told for told in methods.values())}
    assert {"/healthz", "/readyz"} == described["paths"].keys() - guarded


def test_the_answer_of_any_length_is_json(service: Service, client: TestClient) -> None:
    reader = service.live.current
    assert reader is not None
    nothing = replace(reader.recommend("nobody", 1), items=[], scores=[], sources=[])
    assert json.loads(reader.write(nothing, datetime.now(UTC).date()))["items"] == []


def test_a_store_that_is_away_for_a_while_stops_nothing(shop: Store, inputs: CheckInput, user: str) -> None:
    service, away = Service(shop, serving(make_settings(), poll_seconds=0.01)), ConnectionError("away")
    with patch.object(Store, "current", side_effect=away):
        client = TestClient(service.app(), URL).__enter__()
        assert client.get("/readyz").status_code == 503
    wait(lambda: client.get("/readyz").status_code == 200)
    with patch.object(Store, "current", side_effect=away):
        time.sleep(0.1)
        assert items(client.get(f"/v1/users/{user}/recommendations"))
    publish_copy(shop, inputs, "second")
    wait(lambda: client.get("/readyz").json() == {"release": "second"})
    client.__exit__(None, None, None)


def test_impressions_that_cannot_be_written_are_kept_for_later(
    client: TestClient, service: Service, shop: Store, user: str
) -> None:
    client.get(f"/v1/users/{user}/recommendations")
    assert service.impressions is not None
    with patch.object(type(shop.backend), "write", side_effect=OSError("full")):
        service.impressions.flush()
    assert list(impressions.read(shop, datetime.now(UTC).date())) == []
    service.impressions.flush()
    assert len(list(impressions.read(shop, datetime.now(UTC).date()))) == 1


@pytest.fixture
def full(service: Service, shop: Store, user: str) -> Iterator[impressions.Impressions]:
    """A buffer that holds two lists, and is given three."""
    reader = Reader(shop.load("release", "first"))
    kept = impressions.Impressions(shop)
    with patch.object(impressions, "MAX_WAITING", 2):
        for second in range(3):
            kept.add(datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), user, reader, "popularity", reader.recommend(user, 2))
        yield kept


def test_lists_past_the_buffers_cap_are_counted_as_dropped(full: impressions.Impressions, shop: Store) -> None:
    full.flush()
    assert (len(list(impressions.read(shop, date(2026, 1, 1)))), full.dropped) == (2, 1)


def test_lists_that_no_longer_fit_after_a_failed_write_are_counted_as_dropped(full: impressions.Impressions, shop: Store) -> None:
    def fail(*given: Any) -> None:
        for _ in range(2):
            full.add(*shown)  # while the store is written to
        raise OSError("full")

    shown = full._shown[0]
    with patch.object(type(shop.backend), "write", side_effect=fail):
        full.flush()
    full.flush()
    assert (len(list(impressions.read(shop, date(2026, 1, 1)))), full.dropped) == (2, 3)


def test_dropped_lists_are_told_in_the_metrics(client: TestClient, service: Service, user: str) -> None:
    with patch.object(impressions, "MAX_WAITING", 0):
        client.get(f"/v1/users/{user}/recommendations")
    assert "recs_impressions_dropped_total 1.0" in client.get("/metrics").text


def test_what_only_the_team_sees_is_no_impression(client: TestClient, service: Service, shop: Store, user: str) -> None:
    seen = items(client.get(f"/v1/users/{user}/recommendations", params={"shown": False}))
    client.post("/v1/sessions/recommendations", json={"items": seen[:2], "user_id": user, "shown": False})
    assert service.impressions is not None
    service.impressions.flush()
    assert list(impressions.read(shop, datetime.now(UTC).date())) == []


def test_the_user_is_the_one_in_the_path(client: TestClient, user: str) -> None:
    assert client.get(f"/v1/users/{user}/recommendations", params={"user_id": "nobody"}).json()["source"] == "personal"
    assert client.get(f"/v1/users/{'x' * 300}/recommendations", params={"user_id": user}).status_code == 422


@pytest.mark.parametrize("release", ["\0", "..", "a/b", "first\nlive"])
def test_no_release_but_those_that_were_live_can_be_named(client: TestClient, release: str) -> None:
    assert client.get("/v1/users/u/recommendations", params={"release": release}).status_code == 404


def test_a_model_that_is_not_released_is_not_found(client: TestClient, user: str) -> None:
    assert client.get(f"/v1/users/{user}/recommendations", params={"model": "two_stage"}).json()["model"] == "two_stage"
    for more in ({}, {"release": "first"}):
        assert client.get(f"/v1/users/{user}/recommendations", params={"model": "oracle"} | more).status_code == 404


def test_while_too_many_wait_requests_are_sent_away(client: TestClient, service: Service, user: str) -> None:
    with patch.object(service, "measure"):
        service.lag = 2 * service.settings.max_lag_seconds
        late = client.get(f"/v1/users/{user}/recommendations")
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_while_too_many_wait_probes_are_answered(client: TestClient, service: Service, path: str) -> None:
    with patch.object(service, "measure"):
        service.lag = 2 * service.settings.max_lag_seconds
        assert client.get(path).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]", "[::1]:8000"])
def test_requests_to_this_machine_are_answered(client: TestClient, user: str, host: str) -> None:
    assert client.get(f"/v1/users/{user}/history", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]", ""]
)
def test_a_host_name_that_is_not_allowed_is_refused(client: TestClient, host: str) -> None:
    for path in ("/", "/v1/users", "/v1/users/u1/history", "/docs", "/nothing"):
        refused = client.get(path, headers={"Host": host})
        assert refused.status_code == 421
        assert "serve.allowed_hosts" in refused.json()["detail"]


def test_a_host_name_that_is_not_allowed_is_refused_even_with_a_key(service: Service) -> None:
    with TestClient(service.app(keys=["k" * 16]), URL) as client:
        for host, status in {"evil.example": 421, "localhost": 200}.items():
            assert client.get("/v1/models", headers={"Host": host, "X-API-Key": "k" * 16}).status_code == status


def test_a_request_without_a_host_is_refused(service: Service) -> None:
    scope = {"type": "http", "method": "GET", "path": "/v1/users", "query_string": b"", "headers": []}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(service.app()(scope, AsyncMock(), send))
    assert sent[0]["status"] == 421


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_may_ask_by_any_address(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200


def test_a_service_behind_a_load_balancer_answers_to_the_names_it_is_given(shop: Store) -> None:
    with TestClient(Service(shop, serving(make_settings(), allowed_hosts=["Recs.Example.com"])).app(), URL) as client:
        assert client.get("/v1/models", headers={"Host": "recs.example.com"}).status_code == 200
        assert client.get("/v1/models", headers={"Host": "localhost"}).status_code == 421


def test_a_star_allows_every_host(shop: Store) -> None:
    with TestClient(Service(shop, serving(make_settings(), allowed_hosts=["*"])).app(keys=["k" * 16]), URL) as client:
        assert client.get("/v1/models", headers={"Host": "any.example", "X-API-Key": "k" * 16}).status_code == 200


def test_lag_is_what_the_process_is_late_by(client: TestClient, service: Service) -> None:
    seen: list[float] = []

    async def block() -> None:
        time.sleep(1)
        for _ in range(5):
            await asyncio.sleep(0)
            seen.append(service.lag)

    assert client.portal is not None
    client.portal.call(block)
    wait(lambda: service.lag < service.settings.max_lag_seconds)
    assert max(seen) > service.settings.max_lag_seconds


def test_what_was_shown_on_two_days_lies_under_both(service: Service, shop: Store, user: str) -> None:
    reader = Reader(shop.load("release", "first"))
    assert service.impressions is not None
    for day in (1, 3):
        service.impressions.add(datetime(2026, 1, day, tzinfo=UTC), user, reader, "popularity", reader.recommend(user, 2))
    service.impressions.flush()
    for day in (1, 3):
        (found,) = impressions.read(shop, date(2026, 1, day))
        assert (found.at.day, found.model) == (day, "popularity")


def test_what_was_shown_is_given_back_as_a_table(
    client: TestClient, service: Service, shop: Store, user: str, tmp_path: Path
) -> None:
    shown = items(client.get(f"/v1/users/{user}/recommendations", params={"k": 3}))
    assert service.impressions is not None
    service.impressions.flush()
    assert impressions.export(shop, datetime.now(UTC).date(), tmp_path / "shown.parquet") == 3
    table = pq.read_table(tmp_path / "shown.parquet").to_pydict()
    assert (table["position"], table["item_id"]) == ([1, 2, 3], shown)
    assert set(table["user"]) == {impressions.hash_user(user, impressions.salt(shop))}


def test_of_two_that_make_the_salt_at_once_one_is_kept(shop: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        salts = set(pool.map(lambda _: impressions.salt(shop), range(8)))
    assert len(salts) == 1


def test_a_blocked_item_is_in_no_oracle_list(shop: Store) -> None:
    release = shop.load("release", "first")
    blocked = Reader(release).examples[0]["oracle"]["all_items"][0]["item_id"]
    examples = Reader(release, [blocked]).examples
    assert blocked not in {item["item_id"] for user in examples for items in user["oracle"].values() for item in items}
