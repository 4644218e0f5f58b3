"""The ML Test Score (Breck, Cai, Nielsen, Salib and Sculley 2017, doi:10.1109/BigData.2017.8258038): 28 tests of how ready for
production this is. Each is answered by what is found in the live release, in test results or in files, and by no claim.

1: automated, and seen to have run and passed. 0.5: documented, or done by hand. 0: nothing was found. The score is the smallest
of the four sections' sums. What finds the validation report is in reporting/proof.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console

from cli.terminal import table
from reporting.proof import Finder, Sources, any_of, every, files, half, nothing, results, submitted, tests, tuned


class ScoreAnswer(NamedTuple):
    section: str
    name: str
    score: float
    read: str


ITEMS: dict[str, dict[str, Finder]] = {
    "data": {
        "Feature expectations are captured in a schema": every(
            files("dbt_project/models/features/*.yml", r"contract: \{enforced: true\}"),
            tests("test_every_model_builds_and_every_test_passes"),
        ),
        "All features are beneficial": nothing("no feature is left out to see what it is worth"),
        "No feature's cost is too much": nothing("the cost of a single feature is not measured"),
        "Features adhere to meta-level requirements": tests(
            "test_a_model_is_named_for_its_room_and_its_description_says_the_grain",
            "test_only_staging_reads_sources_and_no_model_knows_a_date",
            "test_a_new_feature_that_peeks_one_day_past_the_cutoff_is_caught",
        ),
        "The data pipeline has appropriate privacy controls": half(
            files("data/README.md", r"^#+ .*[Pp]rivacy"), "written, not enforced"
        ),
        "New features can be added quickly": every(
            files("README.md", r"^\| a feature \|"),
            tests("test_every_number_of_the_feature_models_is_a_feature"),
        ),
        "All input feature code is tested": every(
            files("dbt_project/models/features/feat_*.yml", r"^unit_tests:"),
            tests(
                "test_every_model_builds_and_every_test_passes",
                "test_a_comparison_with_the_cutoff_that_lets_equality_in_fails_its_unit_test",
            ),
        ),
    },
    "model": {
        "Model specs are reviewed and submitted": half(submitted, "that it was reviewed is not seen"),
        "Offline and online metrics correlate": half(
            tests("test_what_keeps_its_promise_passes", "test_what_falls_far_below_it_fails_and_so_does_what_popularity_beats"),
            "the target events, not what was clicked",
        ),
        "All hyperparameters have been tuned": tuned,
        "The impact of model staleness is known": nothing("no curve of accuracy by the model's age is made"),
        "A simpler model is not better": results("baseline"),
        "Model quality is sufficient on important data slices": results("slices"),
        "The model is tested for considerations of inclusion": nothing("impression of groups of users and items is not measured"),
    },
    "infrastructure": {
        "Training is reproducible": tests(
            "test_a_release_is_made_again_from_its_raw_snapshot_alone",
            "test_the_same_raw_snapshot_gives_the_same_bytes",
            "test_locks_are_pinned_by_hash_without_addresses",
        ),
        "Model specs are unit tested": tests(
            "test_saved_and_loaded_it_ranks_the_same",
            "test_lists_are_full_without_doubles_and_scores_fall",
            "test_it_tells_what_will_be_bought_and_shuffled_labels_bring_it_to_chance",
        ),
        "The ML pipeline is integration tested": tests(
            "test_the_same_command_twice_gives_the_same_content_without_dbt",
            "test_a_sample_of_a_past_day_is_released_apart_and_sees_no_later_day",
        ),
        "Model quality is validated before serving": every(
            results("lists", "baseline"),
            tests(
                "test_a_failed_check_on_the_model_blocks_in_its_own_words",
                "test_a_blocking_result_keeps_the_pointer_and_resume_takes_the_run_up_again",
            ),
        ),
        "The model is debuggable": tests("test_a_step_can_be_run_again", "test_the_list_is_the_one_that_the_release_holds"),
        "Models are canaried before serving": tests(
            "test_the_canary_is_seen_by_its_share_of_the_users_always_the_same",
            "test_a_failing_canary_drops_no_answer_and_is_sent_back",
        ),
        "Serving models can be rolled back": every(
            tests("test_each_rollback_goes_one_release_further_back", "test_a_new_release_is_taken_up_and_a_rollback_too"),
            files("Makefile", r"^rollback:"),
        ),
    },
    "monitoring": {
        "Dependency changes result in notification": half(
            tests("test_a_diff_tells_what_changed_section_by_section"), "somebody has to ask for it"
        ),
        "Data invariants hold for inputs": results("raw", "drift", "history"),
        "Training and serving are not skewed": any_of(
            results("time_travel"),
            half(tests("test_features_of_a_past_day_are_those_built_on_that_day"), "not on the live data"),
        ),
        "Models are not too stale": tests("test_lists_of_a_model_that_is_too_old_are_not_published"),
        "Models are numerically stable": results("health"),
        "Computing performance has not regressed": nothing("a run tells its cost, but no earlier one is compared"),
        "Prediction quality has not regressed": any_of(
            every(
                results("all_items_not_worse_than_champion", "new_items_not_worse_than_champion"),
                tests("test_what_falls_far_below_it_fails_and_so_does_what_popularity_beats"),
            ),
            half(
                results("all_items_not_worse_than_champion", "new_items_not_worse_than_champion"),
                "against the last champion alone, so a slow decline passes",
            ),
        ),
    },
}


def items(sources: Sources) -> list[ScoreAnswer]:
    """All 28 with what was read for them."""
    return [ScoreAnswer(section, name, *find(sources)) for section, finders in ITEMS.items() for name, find in finders.items()]


def sums(answers: Sequence[ScoreAnswer]) -> dict[str, float]:
    return {section: sum(answer.score for answer in answers if answer.section == section) for section in ITEMS}


def show(sources: Sources, console: Console) -> None:
    """Prints the table, the sums and the score."""
    answers = items(sources)
    rows = ((answer.section, answer.name, f"{answer.score:g}", answer.read) for answer in answers)
    console.print(sources.caption, table(("", "test", "score", "what was read"), rows))
    totals = sums(answers)
    told = ", ".join(f"{section} {total:g}" for section, total in totals.items())
    console.print(f"{told}\n[bold]ML test score {min(totals.values()):g}[/bold], the smallest of the four (of 7)")
