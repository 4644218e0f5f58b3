"""Releases swapped inside the process: broken ones refused, canaries tried and sent back."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from recsys import RecsysError
from recsys.releases.reader import Answer, Reader
from recsys.serving import release_manager as module
from recsys.serving.release_manager import CanaryLimits, ReleaseManager, in_share
from recsys.store.snapshots import Canary, Store, open_store
from recsys.validation.check_input import CheckInput
from serving_shop import publish_copy

LIMITS = CanaryLimits(answers=20, failures=0.2)


@pytest.fixture
def live(shop: Store) -> ReleaseManager:
    live = ReleaseManager(shop, [], LIMITS)
    live.refresh()
    return live


def seen(live: ReleaseManager) -> str:
    assert live.current is not None
    return live.current.id


def test_a_new_release_is_taken_up_and_a_rollback_too(live: ReleaseManager, shop: Store, inputs: CheckInput) -> None:
    publish_copy(shop, inputs, "second")
    live.refresh()
    assert seen(live) == "second"
    shop.point("first", "second")
    live.refresh()
    assert (seen(live), live.loaded, live.refusals) == ("first", 3, 0)


@pytest.mark.parametrize(
    "file", ["lists.sqlite", "items.parquet", "neighbours.npz", "session_neighbours.npz", "fallback.json", "release.json"]
)
def test_a_corrupt_release_is_refused_and_the_old_one_goes_on(
    live: ReleaseManager, shop: Store, inputs: CheckInput, file: str
) -> None:
    publish_copy(shop, inputs, "corrupt", hurt=file)
    live.refresh()
    live.refresh()
    assert (seen(live), live.refusals) == ("first", 1)


def test_a_release_without_report_is_refused(live: ReleaseManager, shop: Store, inputs: CheckInput) -> None:
    publish_copy(shop, inputs, "unproven")
    (shop.backend.root / "releases" / "unproven" / "validation_report.json").unlink()  # type: ignore[union-attr]
    live.refresh()
    assert (seen(live), live.refusals) == ("first", 1)


def test_a_refused_release_is_looked_at_again_after_a_while(live: ReleaseManager, shop: Store, inputs: CheckInput) -> None:
    publish_copy(shop, inputs, "mended", hurt="fallback.json")
    live.refresh()
    shop.backend.write("releases/mended/fallback.json", (inputs.release.path / "fallback.json").read_bytes())
    live.refresh()
    assert seen(live) == "first"
    with patch.object(module, "RETRY_SECONDS", 0.0):
        live.refresh()
    assert seen(live) == "mended"


def test_without_a_release_nothing_is_answered(shop: Store) -> None:
    with pytest.raises(RecsysError, match="no release is live"):
        ReleaseManager(shop, [], LIMITS).ask("u1", lambda reader: reader.recommend("u1", 5))


@pytest.fixture
def trying(shop: Store, inputs: CheckInput) -> Callable[[float], ReleaseManager]:
    """A service that has taken up a canary with some share of the users."""

    def make(share: float) -> ReleaseManager:
        publish_copy(shop, inputs, "second", live=False)
        shop.point_canary(Canary("second", share), shop.current())
        live = ReleaseManager(shop, [], LIMITS)
        live.refresh()
        return live

    return make


def ask(live: ReleaseManager, user: str, question: Callable[[Reader], Answer] | None = None) -> str:
    """The release that answers."""
    return live.ask(user, question or (lambda reader: reader.recommend(user, 5)))[0].id


def test_the_canary_is_seen_by_its_share_of_the_users_always_the_same(trying: Callable[[float], ReleaseManager]) -> None:
    live, users = trying(0.3), [f"user {number}" for number in range(1000)]
    chosen = {user for user in users if ask(live, user) == "second"}
    assert 0.25 < len(chosen) / len(users) < 0.35
    assert chosen == {user for user in users if in_share(user, 0.3)} > {user for user in users if in_share(user, 0.1)}


def test_a_shadow_is_asked_and_never_shown(trying: Callable[[float], ReleaseManager]) -> None:
    live = trying(0.0)
    assert {ask(live, f"user {number}") for number in range(50)} == {"first"}
    assert (live.tally["answers"], live.tally["failures"]) == (50, 0)
    assert live.tally["common"] == live.tally["listed"] == 250


def failing(reader: Reader) -> Answer:
    if reader.id == "second":
        raise ValueError("broken")
    return reader.recommend("u", 5)


def emptier(reader: Reader) -> Answer:
    return reader.recommend("u", 1 if reader.id == "second" else 5)


@pytest.mark.parametrize("question", [failing, emptier])
def test_a_failing_canary_drops_no_answer_and_is_sent_back(
    trying: Callable[[float], ReleaseManager], shop: Store, question: Callable[[Reader], Answer]
) -> None:
    live = trying(1.0)
    for number in range(LIMITS.answers):
        assert live.canary is not None
        assert ask(live, f"user {number}", question) == "first"
    assert (live.canary, live.returns) == (None, 1)
    live.refresh()
    assert (live.canary, shop.canary()) == (None, None)  # for other processes too


def test_a_filter_that_leaves_a_canary_fewer_items_is_no_failure_of_it(trying: Callable[[float], ReleaseManager]) -> None:
    live = trying(1.0)
    assert live.ask("u", emptier, is_filtered=True)[0].id == "second"
    assert live.tally["failures"] == 0


def test_a_canary_that_was_sent_back_may_be_tried_again(trying: Callable[[float], ReleaseManager], shop: Store) -> None:
    live = trying(1.0)
    for number in range(LIMITS.answers):
        ask(live, f"user {number}", failing)
    live.refresh()
    shop.point_canary(Canary("second", 1.0), shop.current())
    live.refresh()
    assert ask(live, "u") == "second"


def test_nobody_in_particular_sees_no_canary(trying: Callable[[float], ReleaseManager]) -> None:
    assert ask(trying(0.99), "") == "first"


def test_a_canary_that_cannot_be_served_does_not_give_its_share_to_the_one_before(
    trying: Callable[[float], ReleaseManager], shop: Store, inputs: CheckInput
) -> None:
    live = trying(0.01)
    publish_copy(shop, inputs, "third", live=False, hurt="lists.sqlite")
    shop.point_canary(Canary("third", 1.0), shop.current())
    live.refresh()
    assert live.canary is None


def test_a_canary_that_fails_within_its_limit_stays(trying: Callable[[float], ReleaseManager]) -> None:
    live = trying(1.0)
    for number in range(100):
        ask(live, f"user {number}", failing if number % 10 == 0 else None)
    assert live.canary is not None
    assert live.tally["failures"] == 10


def test_a_canary_that_is_taken_away_is_seen_no_more(trying: Callable[[float], ReleaseManager], shop: Store) -> None:
    live = trying(1.0)
    assert ask(live, "u") == "second"
    shop.point_canary(None, shop.current())
    live.refresh()
    assert ask(live, "u") == "first"


def test_releases_of_an_object_store_are_served_and_leave_nothing_on_the_disk(s3: str, tmp_path: Path, inputs: CheckInput) -> None:
    store = open_store(f"{s3}/{tmp_path.name}", "shop")
    publish_copy(store, inputs, "first")
    live = ReleaseManager(store, [], LIMITS)
    live.refresh()
    publish_copy(store, inputs, "second")
    live.refresh()
    assert seen(live) == "second"
    assert live.ask("nobody", lambda reader: reader.recommend("nobody", 5))[1].items
    assert not store.backend.fetch("releases/first", {}).exists()
    assert not store.backend.fetch("releases/second", {}).exists()


def test_a_release_mended_in_the_object_store_is_taken_up(s3: str, tmp_path: Path, inputs: CheckInput) -> None:
    store, name = open_store(f"{s3}/{tmp_path.name}", "shop"), "releases/first/fallback.json"
    whole = (inputs.release.path / "fallback.json").read_bytes()
    publish_copy(store, inputs, "first")
    store.backend.write(name, whole.replace(b"i", b"j"))  # as long as before
    live = ReleaseManager(store, [], LIMITS)
    live.refresh()
    assert live.current is None
    assert not store.backend.fetch("releases/first", {}).exists()
    store.backend.write(name, whole)
    with patch.object(module, "RETRY_SECONDS", 0.0):
        live.refresh()
    assert seen(live) == "first"
