"""Similar titles: recommends items with similar titles. Works for items that nobody has bought yet."""

from functools import lru_cache

import numpy as np
from scipy import sparse

from recsys.features import State
from recsys.recommenders.item_to_item import ItemToItem
from recsys.recommenders.top_k import top
from recsys.settings import Count, Positive

ROWS = 256  # number of titles compared with all others at a time, to bound the memory
COMMON = 0.05  # words in more than this share of the titles are ignored


class SimilarTitles(ItemToItem):
    """Cosine similarity of titles by the tf-idf of their words (Salton and Buckley 1988, doi:10.1016/0306-4573(88)90021-0), summed
    over a user's history."""

    name = "similar_titles"

    def __init__(self, neighbours: Count = 50, half_life_days: Positive = 60.0):
        super().__init__(neighbours=neighbours, half_life_days=half_life_days)

    def _lack(self, state: State) -> str:
        return "" if self.similarity_.nnz else f"no two titles share a word that is in at most {COMMON:.0%} of all titles"

    def _fit(self, state: State) -> None:
        self.similarity_ = _similar(tuple(state.items["title"].tolist()), self.neighbours).copy()


@lru_cache(maxsize=1)  # titles are the same at all cutoffs of a feature snapshot
def _similar(titles: tuple[str, ...], neighbours: int) -> sparse.csr_matrix:
    """The most similar titles of each title, with their cosines: (titles, titles)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        words = TfidfVectorizer(sublinear_tf=True, max_df=COMMON, dtype=np.float32).fit_transform(titles)
    except ValueError:  # no word is left
        words = sparse.csr_matrix((len(titles), 1), dtype=np.float32)
    by_word, parts = words.T.tocsr(), []
    for start in range(0, len(titles), ROWS):
        alike = words[start : start + ROWS] @ by_word
        alike.data[np.repeat(np.arange(start, start + alike.shape[0]), np.diff(alike.indptr)) == alike.indices] = 0
        parts.append(top(alike, neighbours))
    return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, 0), dtype=np.float32)
