"""The requests and answers of the service, for its OpenAPI document. Answers are written without these classes, for speed; a test
checks that they match."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

MAX_K = 100  # items of an answer
MAX_SEEN = 50  # items of a session
MAX_EXCLUDED = 300  # items that a request excludes
MAX_CATEGORIES = 50

Id = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(max_length=200)]
Why = Literal["seen_before", "goes_with", "personal", "session", "segment", "popular", "static"]


class Filtered(BaseModel):
    """A request that leaves out items, or lists only those of some categories. In a query, each value is a parameter of its own:
    `exclude=a&exclude=b`."""

    exclude: Annotated[list[Id], Field(max_length=MAX_EXCLUDED, description="ids of items to leave out")] = []
    category: Annotated[list[Name], Field(max_length=MAX_CATEGORIES, description="categories of the items; without any, all")] = []


class ListRequest(Filtered):
    """Parameters of a request for a user's list: `user_id` in the path, all others in the query."""

    user_id: Id
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 10
    list_kind: Annotated[Literal["", "all_items", "new_items"], Field(description="all items, or those new to the user")] = ""
    segment: Annotated[Name, Field(description="segment of an unknown user, who then gets its popular items")] = ""
    model: Annotated[Name, Field(description="one of /v1/models; by default, the winner")] = ""
    release: Annotated[Name, Field(description="another release than the live one, in the demo only")] = ""
    reasons: Annotated[bool, Field(description="whether to add why each item is listed")] = False
    shown: Annotated[bool, Field(description="false if no user sees the list; it is then not logged as an impression")] = True
    seen: Annotated[
        list[Id], Field(max_length=MAX_SEEN, description="items of the user's events since the release, the newest last")
    ] = []


class SimilarRequest(Filtered):
    """Parameters of a request for similar items: `item_id` in the path, all others in the query."""

    item_id: Id
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 10


class Item(BaseModel):
    item_id: str
    title: str
    category: str
    price: Annotated[float | None, Field(description="mean of the last weeks' target events, if they have prices")] = None


class Reason(BaseModel):
    """Why an item is listed. item_id: the item that the reason is based on, if there is one."""

    kind: Why
    item_id: str | None


class ListedItem(Item):
    """score: the recommender's score; 0 for popular items that fill the list up."""

    score: float
    source: Literal["personal", "session", "similar", "segment", "popular", "static"]
    reason: Reason | None = None


class Recommendations(BaseModel):
    """as_of: the release was made from events before this day. age_days: days since then; 0 if the history is closed.
    unknown_categories: categories of the request that no item of the release has; only if there are some."""

    release: str
    model: str
    as_of: str
    age_days: int
    source: Literal["personal", "session", "similar", "segment", "popular", "static", "none"]
    unknown_categories: list[str] | None = None
    items: list[ListedItem]


class Session(Filtered):
    """The items that a visitor looks at now, the newest last, and the visitor's id if it is known."""

    items: Annotated[list[Id], Field(min_length=1, max_length=MAX_SEEN)]
    user_id: Name = ""
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 10
    shown: bool = True


class SeenItem(Item):
    days: float


class UserProfile(BaseModel):
    """A user's segment and last target events, newest first. days: how many days before `as_of` each was."""

    segment: str
    seen: list[SeenItem]


class Example(BaseModel):
    """An example user. oracle: the best possible list by kind of list, known for simulated users only."""

    user_id: str
    segment: str
    why: Literal["active", "typical", "newcomer", "segment"]
    oracle: dict[str, list[Item]]


class Model(BaseModel):
    """A recommender with lists in the release. target: the event type that the lists predict."""

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
    """An error in a request, and the field that has it."""

    detail: list[dict]
