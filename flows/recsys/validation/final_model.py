"""Is the final model, fitted on everything before `as_of`, as good as the one that was scored on the holdout? Nobody has scored the
final model: the events that could judge it are still to come."""

from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np
from scipy import sparse

from recsys.evaluation import bootstrap, judge, rank_by
from recsys.features import State, places
from recsys.recommenders import Ranker, Recommender
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult

Learned = Any  # an array or a sparse matrix
USERS, FEWEST = 2_000, 10  # users of the holdout that are drawn, and below which nothing is decided


def check(inputs: CheckInput, min_final: float, max_relearned: float) -> Iterator[CheckResult]:
    """`min_final`: share of the scored model's metric that the final one must reach. `max_relearned`: of what was learned from the
    state, the share that may differ when it is learned again."""
    yield _relearned(inputs, max_relearned)
    yield from _ranked(inputs, min_final)


def learned(model: Recommender, name: str) -> Iterator[tuple[str, Learned]]:
    """What a recommender, its ranker and its candidate sources learned."""
    for attribute, value in sorted(vars(model).items()):
        if attribute.endswith("_"):
            yield f"{name}.{attribute}", value
        if isinstance(value, Ranker):
            yield from ((f"{name}.{part}", array) for part, array in value.learned().items())
        for part, candidate_source in value.items() if isinstance(value, dict) else ():
            if isinstance(candidate_source, Recommender):
                yield from learned(candidate_source, f"{name}.{part}")


def _learned_from(model: Recommender, state: State) -> Recommender:
    """The same model with what it learns from a state learned from this one: all of a simple recommender, and the candidate sources
    of one with a ranker, which stays."""
    return copy(model).learn(state)


def _relearned(inputs: CheckInput, most: float) -> CheckResult:
    kept, again = (dict(learned(model, inputs.winner)) for model in (inputs.model, _learned_from(inputs.model, inputs.state)))
    apart = {name: _apart(kept[name], again[name]) if name in kept else 1.0 for name in again}
    worst = max(apart, key=lambda name: apart[name])
    words = f"what the model holds is what it learns from the data of {inputs.state.cutoff}, within {most:.0%}"
    if apart[worst] > most:
        words = (
            f"{worst} differs by {apart[worst]:.1%} from what is learned again from the same data, more than {most:.0%}: the model"
            " was changed after it was fitted, or fitted on other data. Train again, with `make run`"
        )
    return CheckResult("learned_again", apart[worst], most, "block", apart[worst] <= most, words)


def _apart(one: Learned, other: Learned) -> float:
    """From 0, for the same, to 1: the sum of absolute differences as a share of the sum of all absolute values; of texts, how many
    differ. Numbers that are not finite count as 0 here: another check result tells them."""
    if one.shape != other.shape:
        return 1.0
    if not sparse.issparse(one) and one.dtype.kind not in "biuf":
        return float((one != other).mean()) if one.size else 0.0
    one, other = (
        array if sparse.issparse(array) else np.nan_to_num(array.astype(float), posinf=0, neginf=0) for array in (one, other)
    )
    size = float(abs(one).sum() + abs(other).sum())
    return float(abs(one - other).sum()) / size if size else 0.0


def _ranked(inputs: CheckInput, least: float) -> Iterator[CheckResult]:
    """The final model ranks at the holdout's cutoff. Its ranker has learned from the events that judge it, so it should do better
    than the scored one. The rest is learned anew at that cutoff: popularity of a later day would list other items."""
    state, metric = inputs.holdout_state, inputs.metric
    users, items = inputs.features.labels(state.cutoff)
    drawn = np.isin(users, np.random.default_rng(inputs.settings.seed).permutation(np.unique(users))[:USERS])
    rank = rank_by(_learned_from(inputs.model, state), state, state, inputs.settings)
    for list_kind, final in judge(rank, state, (users[drawn], items[drawn]), inputs.settings).items():
        window = inputs.holdout(inputs.winner, list_kind)
        scored, reached = window.scores[metric][places(window.users, final.users)], final.scores[metric]
        name, gap = f"{list_kind}_final_model", {metric: reached - least * scored}
        if len(final.users) < FEWEST or not scored.any():
            words = f"{len(final.users):,} users of the holdout are too few to compare the final model with the scored one"
            yield CheckResult(name, len(final.users), FEWEST, "block", True, words)
            continue
        share = float(reached.mean() / scored.mean())
        words = (
            f"on {len(final.users):,} users of the holdout, the final model reaches {share:.0%} of the"
            f" scored model's {metric} of {scored.mean():.3f}; at least {least:.0%} is asked, beyond noise"
        )
        passed = bootstrap(gap, inputs.settings.evaluation.bootstraps, inputs.settings.seed)[metric].high >= 0
        if not passed:
            words += ". The model that makes the lists is not as good as the scored one: train again, with `make run`"
        yield CheckResult(name, share, least, "block", passed, words)
