"""How a release answers live sessions: by which similar items, and how many items of the session may return."""

from dataclasses import dataclass

from recsys.recommenders import ItemToItem, SessionItems
from recsys.settings import Settings

SIMILARITIES = ("item_to_item", "session_items", "smoothed_session")  # the simplest first
PRIOR = 100.0  # sessions that the prior of smoothed_session counts for; 20 to 300 were tried on earlier days of simulated shops


@dataclass(frozen=True)
class SessionAnswers:
    """similarity: which similar items answer, one of SIMILARITIES. item_to_item counts similarity over users, the others over
    sessions; smoothed_session fills it up with what goes with an item's category. repeats: earlier items of the session that are
    listed again, before all others; 0 for none."""

    similarity: str = SIMILARITIES[0]
    repeats: int = 0


SIMPLEST = SessionAnswers()


def similar_items(similarity: str, settings: Settings) -> ItemToItem:
    """One of SIMILARITIES, not yet fitted. The setting `session_neighbours` bounds the size of those over sessions."""
    if similarity == "item_to_item":
        return ItemToItem(neighbours=settings.lists.length)
    neighbours = settings.lists.session_neighbours
    return SessionItems(neighbours, shrinkage=0.0, prior=PRIOR) if similarity == "smoothed_session" else SessionItems(neighbours)
