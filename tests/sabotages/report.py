"""Sabotages between the checks and publishing."""

from dataclasses import replace

from recsys import daily_lists, pipeline
from recsys.validation_report import CheckResult
from runs import Run
from sabotages.harness import sabotage

REMADE = "remade|own|remade|agree"


@sabotage("report", "block", "refused")
def report_edited_by_hand(run: Run) -> None:
    """A check result is renamed in the validation report beside the release."""
    assert run.report
    run.store.attach_report(run.release_id, run.report.to_json().replace(b"all_items_users_served", b"all_items_users_serve"))


@sabotage("report", "block", "refused")
def report_of_another_run(run: Run) -> None:
    """The validation report is about other content."""
    assert run.report
    run.report = replace(run.report, content="of another run")
    run.store.attach_report(run.release_id, run.report.to_json())


@sabotage("report", "block", "refused")
def a_check_left_out(run: Run) -> None:
    """The validation report has no results of the check on lists."""
    assert run.report
    run.report = replace(run.report, on_data={name: found for name, found in run.report.on_data.items() if name != "lists"})
    run.store.attach_report(run.release_id, run.report.to_json())


@sabotage("report", "block", "lists")
def a_result_that_blocks(run: Run) -> None:
    """A check result blocks, and the run publishes anyway."""
    assert run.report
    failed = CheckResult("lists", 0, 1, "block", False, "made up")
    run.report = replace(run.report, on_data=run.report.on_data | {"lists": [failed]})
    run.store.attach_report(run.release_id, run.report.to_json())


@sabotage("report", "block", "refused")
def a_file_changed_after_the_checks(run: Run) -> None:
    """A byte of a released file changes after the checks."""
    flip(run, "release", run.release_id, "lists.sqlite")


@sabotage("report", "block", "refused")
def a_damaged_model(run: Run) -> None:
    """A byte of the saved model changes before lists are made."""
    flip(run, "model", run.champion.model_id if run.lists_only else run.selection.model_id, "learned.npz")
    run.go("recommend", "validate")


@sabotage("report", "block", "refused")
def damaged_features(run: Run) -> None:
    """A byte of the features changes before lists are made."""
    flip(run, "features", run.features_id, "fct_events.parquet")
    run.go("recommend", "validate")


def flip(run: Run, kind: str, id: str, name: str) -> None:
    file = run.store.load(kind, id).path / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@sabotage("report", "block", "refused", places=("later",))
def another_champion_meanwhile(run: Run) -> None:
    """Another model goes live while the run is checked."""
    assert run.selection
    assert run.report
    other = replace(run, selection=replace(run.selection, winner="item_to_item", model_id=run.selection.models["item_to_item"]))
    other.recommend()
    run.store.point(other.release_id, run.champion)


@sabotage("report", "block", "model_age|refused", places=("daily",))
def a_model_too_old(run: Run) -> None:
    """The live model is older than its settings allow."""
    limits = run.settings.checks["freshness"] | {"block_model_days": 1}
    validation = replace(run.settings.validation, max_model_age_days=1)
    run.settings = replace(run.settings, validation=validation, checks=run.settings.checks | {"freshness": limits})
    run.go("recommend", "validate")


@sabotage("report", "block", "refused", places=("daily",))
def lists_for_another_target(run: Run) -> None:
    """The target of the settings is not the one that the live model predicts."""
    run.settings = replace(run.settings, dataset=replace(run.settings.dataset, target="subscribe"))
    run.go("land", "validate")


@sabotage("report", "block", REMADE + "|served|refused", places=("daily",))
def a_shard_missing(run: Run) -> None:
    """The lists of one shard of users are not gathered."""
    half = pipeline.open_features(run.store, run.features_id, run.settings).counts()["users"] // 2
    part = daily_lists.recommend(run.store, run.champion, run.features_id, (0, half), run.settings)
    run.release_id = daily_lists.gather(run.store, run.champion, run.features_id, [part], run.settings, {})
    run.go("validate", "validate")
