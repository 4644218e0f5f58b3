"""Publishing moves CURRENT to a release whose own validation report allows it, and leaves it where it stands otherwise."""

from dataclasses import replace

import pytest

from conftest import PASSED, make_release
from recsys import RecsysError
from recsys.publishing.publication import ValidatedRelease, publish
from recsys.store.backends import Conflict
from recsys.store.snapshots import Store
from recsys.validation_report import CheckResult, ValidationReport

WARNED = CheckResult("coverage", 0.1, 0.2, "warn", False, "10 % of the items are listed")
FAILED = CheckResult("ndcg", 0.1, 0.2, "block", False, "NDCG@10 is 0.1, less than the champion's 0.2")


def attach_and_publish(store: Store, release: str, report: ValidationReport, expected: str | None) -> None:
    store.attach_report(release, report.to_json())
    publish(store, ValidatedRelease(release, report, expected), checks=["lists", "baseline"])


@pytest.fixture
def report(store: Store) -> ValidationReport:
    """Validation report that lets release "new" pass, in a store where "live" is current."""
    attach_and_publish(store, "live", make_release(store, "live", "older"), expected=None)
    return make_release(store, "new")


def assert_refused(store: Store, report: ValidationReport, words: str) -> None:
    """Release "new" is refused with this validation report attached, and "live" stays current."""
    with pytest.raises(RecsysError, match=words):
        attach_and_publish(store, "new", report, expected="live")
    assert store.current() == "live"
    assert [move["release"] for move in store.history()] == ["live"]


@pytest.mark.both_stores
def test_a_release_whose_checks_passed_is_published(store: Store, report: ValidationReport) -> None:
    attach_and_publish(store, "new", report, expected="live")
    assert store.current() == "new"


def test_the_history_names_the_model_that_was_published(store: Store, report: ValidationReport) -> None:
    attach_and_publish(store, "new", report, expected="live")
    assert store.history()[-1] == {"release": "new", "previous": "live", "model": "m1"}


def test_a_failure_that_only_warns_does_not_block(store: Store, report: ValidationReport) -> None:
    attach_and_publish(
        store,
        "new",
        replace(report, on_model={"baseline": [PASSED, WARNED]}, on_data={"lists": [WARNED]}),
        expected="live",
    )
    assert store.current() == "new"


def test_report_without_results_on_data_is_refused(store: Store, report: ValidationReport) -> None:
    assert_refused(store, replace(report, on_data={"lists": []}), "no check result of lists")


def test_report_without_results_on_the_model_is_refused(store: Store, report: ValidationReport) -> None:
    assert_refused(store, replace(report, on_model={"baseline": []}), "no check result of baseline")


def test_a_failed_check_on_data_blocks_in_its_own_words(store: Store, report: ValidationReport) -> None:
    refused = replace(report, on_data={"lists": [PASSED, FAILED]})
    assert_refused(store, refused, r"validation report: \[ndcg\] NDCG@10 is 0.1, less than the champion's 0.2")


def test_a_failed_check_on_the_model_blocks_in_its_own_words(store: Store, report: ValidationReport) -> None:
    refused = replace(report, on_model={"baseline": [FAILED, WARNED]})
    with pytest.raises(RecsysError) as refusal:
        attach_and_publish(store, "new", refused, expected="live")
    assert FAILED.message in str(refusal.value)
    assert WARNED.message not in str(refusal.value)


def test_report_on_another_model_is_refused(store: Store, report: ValidationReport) -> None:
    assert_refused(store, replace(report, model="m2"), "does not belong to release new: it has model m2, not m1;")


def test_report_on_other_features_is_refused(store: Store, report: ValidationReport) -> None:
    assert_refused(store, replace(report, features="f2"), "does not belong to release new: it has features f2, not f1;")


def test_report_on_the_lists_of_another_release_is_refused(store: Store, report: ValidationReport) -> None:
    other = make_release(store, "other", "other")
    assert_refused(store, other, f"does not belong to release new: it has content {other.content}, not {report.content};")


def test_report_edited_after_it_was_attached_is_refused(store: Store, report: ValidationReport) -> None:
    attached = replace(report, on_model={"baseline": [FAILED]}).to_json()
    edited = attached.replace(b'"passed": false', b'"passed": true')
    assert edited != attached
    store.attach_report("new", edited)
    with pytest.raises(RecsysError, match=r"validation_report.json of release new differs from what the checks wrote"):
        publish(store, ValidatedRelease("new", report, "live"), checks=["lists", "baseline"])
    assert store.current() == "live"


def test_report_that_was_never_attached_is_refused(store: Store, report: ValidationReport) -> None:
    store.backend.remove("releases/new/validation_report.json")
    with pytest.raises(RecsysError, match=r"validation_report.json of release new differs from what the checks wrote"):
        publish(store, ValidatedRelease("new", report, "live"), checks=["lists", "baseline"])
    assert store.current() == "live"


def test_a_release_changed_after_it_was_checked_is_refused(store: Store, report: ValidationReport) -> None:
    store.backend.write("releases/new/items.parquet", b"others")
    assert_refused(store, report, r"items.parquet differs from its manifest|items.parquet is missing")


@pytest.mark.both_stores
def test_a_release_judged_against_another_champion_is_a_conflict(store: Store, report: ValidationReport) -> None:
    store.attach_report("new", report.to_json())
    with pytest.raises(Conflict, match="another run published live"):
        publish(store, ValidatedRelease("new", report, None), checks=["lists", "baseline"])
    assert store.current() == "live"


def test_attached_report_reads_back_as_it_was_passed(store: Store, report: ValidationReport) -> None:
    mixed = replace(report, on_model={"baseline": [PASSED, WARNED]})
    store.attach_report("new", mixed.to_json())
    assert ValidationReport.from_json(store.report("new") or b"") == mixed
