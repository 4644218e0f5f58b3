"""Publishing moves CURRENT to a release whose own evidence allows it, and leaves it where it stands otherwise."""

from dataclasses import replace

import pytest

from conftest import PASSED, make_release
from recsys import RecsysError
from recsys.publishing.publication import publish
from recsys.store.backends import Conflict
from recsys.store.snapshots import Store
from recsys.validation_report import Evidence, Verdict

WARNED = Verdict("coverage", 0.1, 0.2, "warn", False, "10 % of the items are listed")
FAILED = Verdict("ndcg", 0.1, 0.2, "block", False, "NDCG@10 is 0.1, less than the champion's 0.2")


def attach_and_publish(store: Store, release: str, evidence: Evidence, expected: str | None) -> None:
    store.attach_evidence(release, evidence.to_json())
    publish(store, release, evidence, expected, families=["lists", "simpler"])


@pytest.fixture
def evidence(store: Store) -> Evidence:
    """Evidence that lets release "new" pass, in a store where "live" is current."""
    attach_and_publish(store, "live", make_release(store, "live", "older"), expected=None)
    return make_release(store, "new")


def assert_refused(store: Store, evidence: Evidence, words: str) -> None:
    """Release "new" is refused with this evidence attached, and "live" stays current."""
    with pytest.raises(RecsysError, match=words):
        attach_and_publish(store, "new", evidence, expected="live")
    assert store.current() == "live"
    assert [move["release"] for move in store.history()] == ["live"]


def test_a_release_whose_checks_passed_is_published(store: Store, evidence: Evidence) -> None:
    attach_and_publish(store, "new", evidence, expected="live")
    assert store.current() == "new"


def test_the_history_names_the_model_that_was_published(store: Store, evidence: Evidence) -> None:
    attach_and_publish(store, "new", evidence, expected="live")
    assert store.history()[-1] == {"release": "new", "previous": "live", "model": "m1"}


def test_a_failure_that_only_warns_does_not_block(store: Store, evidence: Evidence) -> None:
    attach_and_publish(
        store,
        "new",
        replace(evidence, on_model={"simpler": [PASSED, WARNED]}, on_data={"lists": [WARNED]}),
        expected="live",
    )
    assert store.current() == "new"


def test_evidence_without_verdicts_on_data_is_refused(store: Store, evidence: Evidence) -> None:
    assert_refused(store, replace(evidence, on_data={"lists": []}), "no verdict of lists")


def test_evidence_without_verdicts_on_the_model_is_refused(store: Store, evidence: Evidence) -> None:
    assert_refused(store, replace(evidence, on_model={"simpler": []}), "no verdict of simpler")


def test_a_failed_check_on_data_blocks_in_its_own_words(store: Store, evidence: Evidence) -> None:
    refused = replace(evidence, on_data={"lists": [PASSED, FAILED]})
    assert_refused(store, refused, r"evidence: \[ndcg\] NDCG@10 is 0.1, less than the champion's 0.2")


def test_a_failed_check_on_the_model_blocks_in_its_own_words(store: Store, evidence: Evidence) -> None:
    refused = replace(evidence, on_model={"simpler": [FAILED, WARNED]})
    with pytest.raises(RecsysError) as refusal:
        attach_and_publish(store, "new", refused, expected="live")
    assert FAILED.message in str(refusal.value)
    assert WARNED.message not in str(refusal.value)


def test_evidence_on_another_model_is_refused(store: Store, evidence: Evidence) -> None:
    assert_refused(store, replace(evidence, model="m2"), "not of release new: it speaks of model m2, not m1;")


def test_evidence_on_other_features_is_refused(store: Store, evidence: Evidence) -> None:
    assert_refused(store, replace(evidence, features="f2"), "not of release new: it speaks of features f2, not f1;")


def test_evidence_on_the_lists_of_another_release_is_refused(store: Store, evidence: Evidence) -> None:
    other = make_release(store, "other", "other")
    assert_refused(store, other, f"not of release new: it speaks of content {other.content}, not {evidence.content};")


def test_evidence_edited_after_it_was_attached_is_refused(store: Store, evidence: Evidence) -> None:
    attached = replace(evidence, on_model={"simpler": [FAILED]}).to_json()
    edited = attached.replace(b'"passed": false', b'"passed": true')
    assert edited != attached
    store.attach_evidence("new", edited)
    with pytest.raises(RecsysError, match=r"evidence.json of release new is not what its checks wrote"):
        publish(store, "new", evidence, expected="live", families=["lists", "simpler"])
    assert store.current() == "live"


def test_evidence_that_was_never_attached_is_refused(store: Store, evidence: Evidence) -> None:
    store.backend.remove("releases/new/evidence.json")
    with pytest.raises(RecsysError, match=r"evidence.json of release new is not what its checks wrote"):
        publish(store, "new", evidence, expected="live", families=["lists", "simpler"])
    assert store.current() == "live"


def test_a_release_changed_after_it_was_checked_is_refused(store: Store, evidence: Evidence) -> None:
    store.backend.write("releases/new/items.parquet", b"others")
    assert_refused(store, evidence, r"items.parquet differs from its manifest|items.parquet is missing")


def test_a_release_judged_against_another_champion_is_a_conflict(store: Store, evidence: Evidence) -> None:
    store.attach_evidence("new", evidence.to_json())
    with pytest.raises(Conflict, match="another run published live"):
        publish(store, "new", evidence, expected=None, families=["lists", "simpler"])
    assert store.current() == "live"


def test_attached_evidence_reads_back_as_it_was_passed(store: Store, evidence: Evidence) -> None:
    mixed = replace(evidence, on_model={"simpler": [PASSED, WARNED]})
    store.attach_evidence("new", mixed.to_json())
    assert Evidence.from_json(store.evidence("new") or b"") == mixed
