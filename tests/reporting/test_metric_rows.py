"""What the summary, the card and the report say of a release's metrics, from a validation report of a few numbers."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from conftest import make_settings
from recsys.evaluation.metrics import Interval
from recsys.validation.check_input import CheckInput
from recsys.validation.measurements import measure
from recsys.validation_report import CheckResult, Limits, Measurement, SourceLimits, ValidationReport
from reporting import figures, metrics
from reporting.figures import for_whom, groups, recommenders
from reporting.summary import share_costs

SETTINGS = make_settings()
BETTER, SAME, WORSE = (0.1, 0.05, 0.15), (0.0, -0.05, 0.05), (-0.1, -0.15, -0.05)


def measured(
    gain: Sequence[float] | None = BETTER, group: str = "", list_kind: str = "all_items", winner: str = "two_stage"
) -> Measurement:
    return Measurement(list_kind, winner, "ndcg@10", 50, (0.4, 0.3, 0.5), gain, "popularity", group)


def report(*measurements: Measurement, to_last: Sequence[float] = (), compared_with: str = "") -> ValidationReport:
    name, value = "all_items_not_worse_than_champion", to_last[0] if to_last else 0.0
    champion = CheckResult(name, value, 0.0, "block", True, "compared", interval=to_last[1:])
    return ValidationReport("m", "f", "c", {"champion": [champion]}, {}, measurements, compared_with=compared_with)


def test_the_first_release_is_compared_with_the_best_simple_recommender() -> None:
    first = report(measured(), to_last=BETTER)
    assert list(metrics.lines(first, "two_stage", SETTINGS)) == [
        ("NDCG@10, all items", "0.400 [0.300, 0.500]", "+0.100 [+0.050, +0.150] against the best simple recommender, popularity")
    ]
    assert "last release" not in metrics.answer(first, "two_stage", SETTINGS)


def test_a_later_release_is_compared_with_the_last_one_too() -> None:
    (row,) = metrics.headline(report(measured(), to_last=WORSE, compared_with="r1"), "two_stage", SETTINGS)
    assert row.to_last == Interval(*WORSE)
    assert row.to_simple == Interval(*BETTER)
    ((_, _, words),) = metrics.lines(report(measured(), to_last=WORSE, compared_with="r1"), "two_stage", SETTINGS)
    assert words.endswith("against the last release, r1")


@pytest.mark.parametrize(("delta", "rating"), [(BETTER, "better"), (SAME, "same"), (WORSE, "worse")])
def test_a_difference_counts_beyond_noise_only(delta: Sequence[float], rating: str) -> None:
    assert metrics.rating(Interval(*delta)) == rating


def test_other_recommenders_and_groups_are_no_headline() -> None:
    others = measured(winner="oracle"), measured(group="segment north")
    assert metrics.headline(report(*others), "two_stage", SETTINGS) == []


def test_a_simple_winner_is_not_compared_with_itself() -> None:
    own = report(measured(None, winner="popularity"))
    assert "best simple recommender itself" in metrics.answer(own, "popularity", SETTINGS)


def test_groups_that_are_worse_are_named() -> None:
    found = report(measured(BETTER, "segment north"), measured(WORSE, "segment south"), measured(SAME, "age low"))
    rows = metrics.rows(found, "two_stage", SETTINGS)
    assert "1 of 3 groups; worse in segment south" in for_whom(rows)
    assert [figure.title for figure in groups(rows)] == ["Users", "Items"]


def test_answers_to_sessions_are_shown_beside_the_lists() -> None:
    answers = [
        Measurement("sessions", "session_items", metric, 50, (0.4, 0.3, 0.5), BETTER, "item_to_item")
        for metric in ("hr@20", "mrr@20")
    ]
    rows = metrics.rows(report(measured(), *answers), "two_stage", SETTINGS)
    _, figure = recommenders(rows, "two_stage", SETTINGS)
    assert figure.title == "Sessions"
    assert figure.tables == {"at 20": [{"": "session_items", "hr@20": (0.4, 0.3, 0.5), "mrr@20": (0.4, 0.3, 0.5)}]}


def test_what_limits_the_lists_is_a_row_for_each_kind_and_a_figure_of_features_and_sources() -> None:
    sources = {"own": SourceLimits(0.3, 0.1, (0.02, 0.01, 0.03))}
    importance = {"pair_baskets": (0.05, 0.01, 0.09), "user_views": (0.001, -0.01, 0.01)}
    found = Limits("2024-01-01", 50, (0.4, 0.3, 0.5), (0.8, 0.7, 0.9), (0.6, 0.5, 0.7), sources, importance)
    (row,) = metrics.limiting(replace(report(measured()), limits={"all_items": found}), SETTINGS)
    assert [str(cell) for cell in row.values()] == [
        "all items",
        "0.600 [0.500, 0.700]",
        "0.400 [0.300, 0.500]",
        "0.800 [0.700, 0.900]",
    ]
    (figure,) = figures.limits({"all_items": found}, SETTINGS)
    assert figure.plot.index("pair_baskets") < figure.plot.index("+0.001 [-0.010, +0.010]")
    assert list(figure.tables["Candidate sources"][0].values()) == ["own", 0.3, 0.1, "+0.020 [+0.010, +0.030]"]


def test_a_report_is_read_as_it_was_written() -> None:
    written = report(measured(), to_last=BETTER, compared_with="r1")
    read = ValidationReport.read(written.to_json())
    assert read
    assert metrics.rows(read, "two_stage", SETTINGS) == metrics.rows(written, "two_stage", SETTINGS)


@pytest.mark.slow
def test_what_is_measured_of_a_release(audited: CheckInput) -> None:
    found, limits = measure(audited, {})
    assert (found, limits) == measure(audited, {})
    lists = [one for one in found if one.list_kind != "sessions"]
    assert {one.recommender for one in lists} == {"popularity", "two_stage"}
    assert all((one.gain is None) == (one.recommender == "popularity" or "coverage" in one.metric) for one in lists if one.users)
    sessions = [one for one in found if one.list_kind == "sessions"]
    assert {one.metric for one in sessions} == {"hr@20", "mrr@20"}
    assert {"session_items", "item_to_item", "session_knn, repeats"} < {one.recommender for one in sessions}
    assert all((one.gain is None) == (one.recommender == "item_to_item") for one in sessions)
    assert {one.group.split(" ")[0] for one in found} >= {"", "segment", "activity", "tenure", "popularity"}
    earlier = audited.evaluations["two_stage"]["all_items"][1]
    assert limits["all_items"] == earlier.limits
    assert limits["all_items"].cutoff == earlier.cutoff.isoformat() < audited.holdout("two_stage").cutoff.isoformat()
    assert limits["all_items"].ranked[0] <= limits["all_items"].perfect[0]


@pytest.mark.parametrize("run", [9.4, 2.0])
def test_the_parts_of_a_runs_cost_sum_to_its_total(run: float) -> None:
    total, parts = share_costs({"land": 1.7, "train": 4.6, "end": 0.3}, run)
    assert list(parts)[:2] == ["land", "train"]
    assert sum(parts.values()) == total == round(max(run, 6.6))
    assert min(parts.values()) >= 0
