"""Title words: what the items of a user's target events are called more often than everybody's, and which words are in demand."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.features import State
from recsys.recommenders.base import Recommender, Scorer
from recsys.settings import Positive

FEWEST, COMMON = 3, 0.05  # titles that hold a word, and share of them: a rarer one says nothing of other items, a commoner one too
RARE = 0.002  # added to a word's share of all target events, which its share of a user's is divided by


class TitleWords(Recommender):
    """Lift of an item's words: their share of the user's target events, which halve every `half_life_days`, over their share of
    everybody's of the last 91 days, averaged over the title. Nothing is learned: target events are part of the state."""

    name = "title_words"

    def __init__(self, half_life_days: Positive = 60.0):
        self.half_life_days = half_life_days

    def _fit(self, state: State) -> None:
        """Nothing is learned apart from the state."""

    def _lack(self, state: State) -> str:
        return "" if words(state).nnz else f"no word stands in {FEWEST} titles or more and in at most {COMMON:.0%} of all"

    def scorer(self, state: State) -> Scorer:
        held, events = words(state), np.nan_to_num(state.items["target_events_91d"])
        lift = sparse.diags(1 / (held.T @ events / max(events.sum(), 1.0) + RARE))
        history = state.bought(half_life_days=self.half_life_days)
        shares = sparse.diags(1 / np.maximum(np.asarray(history.sum(1)).ravel(), 1e-9)) @ history
        taste, titles = (shares @ held @ lift).astype(np.float32), _mean(held).T.tocsr()
        return lambda rows: taste[rows] @ titles


def words(state: State) -> sparse.csr_matrix:
    """Which words each title holds: (items, words), 0 or 1."""
    from sklearn.feature_extraction.text import CountVectorizer

    try:
        return CountVectorizer(binary=True, min_df=FEWEST, max_df=COMMON, dtype=np.float32).fit_transform(state.items["title"])
    except ValueError:  # no word is in enough titles
        return sparse.csr_matrix((state.shape[1], 1), dtype=np.float32)


def word_sales(state: State) -> dict[str, NDArray[np.float32]]:
    """Target events of the words of each title, and how many more than before: (items,) each, averaged over its words."""
    held = words(state)
    recent, longer = (held.T @ np.nan_to_num(state.items[f"target_events_{days}d"]) for days in (28, 91))
    sales = {"words_target_events": np.log1p(recent), "words_trend": np.log((recent * 91 / 28 + 20) / (longer + 20))}
    return {name: (_mean(held) @ values).astype(np.float32) for name, values in sales.items()}


def _mean(held: sparse.csr_matrix) -> sparse.csr_matrix:
    """Takes the mean over the words of each title."""
    return (sparse.diags(1 / np.maximum(np.diff(held.indptr), 1)) @ held).tocsr()
