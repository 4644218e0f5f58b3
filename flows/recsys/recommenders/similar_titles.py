"""Similar titles: recommends items with similar titles. Works for items that nobody has bought yet."""

import numpy as np
from scipy import sparse

from recsys.features import State
from recsys.recommenders.item_to_item import ItemToItem
from recsys.recommenders.top_k import top
from recsys.settings import Count, Positive

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
        from sklearn.feature_extraction.text import TfidfVectorizer

        try:
            words = TfidfVectorizer(sublinear_tf=True, max_df=COMMON, dtype=np.float32).fit_transform(state.items["title"])
        except ValueError:  # no word is left
            words = sparse.csr_matrix((state.shape[1], 1), dtype=np.float32)
        alike = (words @ words.T).tocsr()
        alike.setdiag(0)
        self.similarity_ = top(alike, self.neighbours)
