"""What the service takes and gives, as its documentation tells it. Answers are written by hand, for speed; a test holds them
against these."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

MOST = 100  # items of an answer
MOST_SEEN = 50  # items of a live session that are looked at

Id = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(max_length=200)]
Why = Literal["seen_before", "goes_with", "personal", "segment", "popular", "static"]


class Asked(BaseModel):
    """What the route of lists takes: `user_id` in its path, the rest in its query."""

    user_id: Id
    k: Annotated[int, Field(ge=1, le=MOST)] = 10
    list_kind: Annotated[Literal["", "all_items", "new_items"], Field(description="all items, or those new to the user")] = ""
    segment: Annotated[Name, Field(description="of a stranger, who then gets what is popular there")] = ""
    model: Annotated[Name, Field(description="one of /v1/models")] = ""
    release: Annotated[Name, Field(description="in the demo: another one than the live release")] = ""
    reasons: Annotated[bool, Field(description="tell why each item is listed")] = False
    shown: Annotated[bool, Field(description="false: nobody but the team sees it, so it is no impression")] = True


class Item(BaseModel):
    item_id: str
    title: str
    category: str
    price: Annotated[float | None, Field(description="mean of the last weeks' target events, if they have prices")] = None


class Reason(BaseModel):
    """Why an item is listed. `item_id`: the one that speaks for it, where one does."""

    kind: Why
    item_id: str | None


class ListedItem(Item):
    """`score`: the recommender's; 0 for what fills a list up."""

    score: float
    source: Literal["personal", "session", "similar", "segment", "popular", "static"]
    reason: Reason | None = None


class Recommendations(BaseModel):
    """`as_of`: the day whose events the release has not seen any more; `age_days`: how long ago that is, and 0 in a closed
    history, of which that day counts as today."""

    release: str
    model: str
    as_of: str
    age_days: int
    source: Literal["personal", "session", "similar", "segment", "popular", "static", "none"]
    items: list[ListedItem]


class Session(BaseModel):
    """What a visitor looks at now, the newest item last; and who it is, if known."""

    items: Annotated[list[Id], Field(min_length=1, max_length=MOST_SEEN)]
    user_id: Name = ""
    k: Annotated[int, Field(ge=1, le=MOST)] = 10
    shown: bool = True


class SeenItem(Item):
    days: float


class UserProfile(BaseModel):
    """What the release knows of a user: the items of the last target events, newest first, and how many
    days before `as_of` each was."""

    segment: str
    seen: list[SeenItem]


class Example(BaseModel):
    """A user to try. `oracle`: per kind of list the best list that anybody could make, known of simulated users only."""

    user_id: str
    segment: str
    why: Literal["active", "typical", "newcomer", "segment"]
    oracle: dict[str, list[Item]]


class Model(BaseModel):
    """`target`: the event type that the lists are made to lead to."""

    name: str
    default: bool
    release: str
    target: str


class Release(BaseModel):
    release: str
    model: str
    live: bool


class Problem(BaseModel):
    detail: str


class Invalid(BaseModel):
    """What is wrong with a request, and where."""

    detail: list[dict]
