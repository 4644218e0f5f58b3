"""Evaluation by time: recommenders are fitted before a cutoff, rank at it, and are scored on the events in the horizon after it.

Also compares two releases (`diff`) and tunes parameters.
"""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.evaluation.holdout import (
        Robustness,
        ScoredWindow,
        ScoredWindows,
        compare,
        evaluate,
        holdout_table,
        judge,
        oracle,
        per_user,
        rank_by,
        relevant,
        require_outcomes,
        robustness,
        select,
        steadiest,
        summarise,
        target_share,
    )
    from recsys.evaluation.limits import PREDICTIONS, Costs, measure_costs, measure_limits
    from recsys.evaluation.metrics import Interval, beyond_accuracy, bootstrap, coverage
    from recsys.evaluation.release_diff import compare_lists, diff, top
    from recsys.evaluation.sessions import ScoredSessions, score_sessions, select_sessions, session_name
    from recsys.evaluation.tuning import Trial, advice, findings, limits_log, log, variants

__getattr__ = lazy(__name__, __file__)
