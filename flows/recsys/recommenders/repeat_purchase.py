"""Repeat purchase: what the user has bought before, most often first. Hard to beat wherever things are used up."""

from recsys.recommenders.base import Recommender, Scorer
from recsys.state import State


class RepeatPurchase(Recommender):
    """Ranks by the number of the user's baskets that held the item (personal top frequency: Hu et al. 2020,
    doi:10.1145/3397271.3401066)."""

    name = "repeat_purchase"

    def _fit(self, state: State) -> None:
        """Nothing to learn: the counts are part of the state."""

    def scorer(self, state: State) -> Scorer:
        owned = state.owned()
        return lambda rows: owned[rows]
