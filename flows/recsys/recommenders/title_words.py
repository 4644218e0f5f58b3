"""Title words: recommends items whose title words are more frequent in a user's history than in all users' histories."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.features import State
from recsys.recommenders.base import Recommender, Scorer
from recsys.settings import Positive

MIN_TITLES, COMMON = 3, 0.05  # words in fewer titles, or in more than this share of the titles, are ignored
RARE = 0.002  # added to a word's share of all target events, which is a divisor


class TitleWords(Recommender):
    """Scores an item by the mean lift of its title's words: the word's share of the user's target events, with half-life
    `half_life_days`, divided by its share of all target events of the last 91 days."""

    name = "title_words"

    def __init__(self, half_life_days: Positive = 60.0):
        self.half_life_days = half_life_days

    def _fit(self, state: State) -> None:
        """Does nothing, since the state has the target events."""

    def _lack(self, state: State) -> str:
        return "" if words(state).nnz else f"no word is in {MIN_TITLES} titles or more and in at most {COMMON:.0%} of all titles"

    def scorer(self, state: State) -> Scorer:
        held, events = words(state), np.nan_to_num(state.items["target_events_91d"])
        lift = sparse.diags(1 / (held.T @ events / max(events.sum(), 1.0) + RARE))
        history = state.bought(half_life_days=self.half_life_days)
        shares = sparse.diags(1 / np.maximum(np.asarray(history.sum(1)).ravel(), 1e-9)) @ history
        taste, titles = (shares @ held @ lift).astype(np.float32), _mean(held).T.tocsr()
        return lambda rows: taste[rows] @ titles


def words(state: State) -> sparse.csr_matrix:
    """Returns which words each title has: (items, words), 0 or 1."""
    from sklearn.feature_extraction.text import CountVectorizer

    try:
        return CountVectorizer(binary=True, min_df=MIN_TITLES, max_df=COMMON, dtype=np.float32).fit_transform(state.items["title"])
    except ValueError:  # no word is in enough titles
        return sparse.csr_matrix((state.shape[1], 1), dtype=np.float32)


def word_sales(state: State) -> dict[str, NDArray[np.float32]]:
    """Returns two features of items, each (items,): mean logs of the target events of the title's words, and of their growth."""
    held = words(state)
    recent, longer = (held.T @ np.nan_to_num(state.items[f"target_events_{days}d"]) for days in (28, 91))
    sales = {"words_target_events": np.log1p(recent), "words_trend": np.log((recent * 91 / 28 + 20) / (longer + 20))}
    return {name: (_mean(held) @ values).astype(np.float32) for name, values in sales.items()}


def _mean(held: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scales rows such that a product with it is the mean over the words of each title."""
    return (sparse.diags(1 / np.maximum(np.diff(held.indptr), 1)) @ held).tocsr()
