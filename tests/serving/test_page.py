"""The demo page in a real browser, over a real server."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from selenium.webdriver import Chrome, Keys

from browser import Page, asked, errors, open_chrome
from conftest import make_settings, wait
from recsys.releases.reader import Reader
from recsys.store.snapshots import Store, open_store
from recsys.validation.check_input import CheckInput
from serving_shop import Server, add_oracle, publish_copy, serving

pytestmark = pytest.mark.slow

ODD_ID, ODD_TITLE = '"><script>hurt = 1</script>', "<img src=x onerror='hurt = 1'>"
KEY = "k" * 16
SETTINGS = serving(make_settings(), impressions=False, max_lag_seconds=60.0)


@pytest.fixture(scope="module")
def user(inputs: CheckInput) -> str:
    return str(inputs.state.user_ids[3])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, inputs: CheckInput, user: str) -> Store:
    """Release "first" is live. Of the models beside it "same" has the same lists, "shifted" leaves out the first item of each; that
    of the user has odd names. The release "second" does as "shifted"."""
    store = open_store(str(tmp_path_factory.mktemp("store")), "shop")

    def change(folder: Path) -> None:
        put_beside(folder)
        add_oracle(folder)
        rename(folder, user)

    publish_copy(store, inputs, "second", change=lambda folder: shift(folder / "lists.sqlite"))
    publish_copy(store, inputs, "first", change=change)
    return store


def shift(file: Path) -> None:
    def cut(blob: bytes) -> bytes:
        items, scores = np.frombuffer(blob, "<i4").reshape(2, -1)
        return items[1:].tobytes() + scores[1:].tobytes()

    with closing(sqlite3.connect(file)) as connection, connection:
        connection.create_function("cut", 1, cut)
        connection.execute("update lists set all_items = cut(all_items), new_items = cut(new_items)")


def put_beside(folder: Path) -> None:
    (folder / "alternatives").mkdir()
    for name in ("same", "shifted"):
        shutil.copy(folder / "lists.sqlite", folder / "alternatives" / f"{name}.sqlite")
    shift(folder / "alternatives" / "shifted.sqlite")


def rename(folder: Path, user: str) -> None:
    """Gives odd names to the first item of a user's list."""
    with closing(sqlite3.connect(folder / "lists.sqlite")) as connection:
        (blob,) = connection.execute("select all_items from lists where user_id = ?", (user,)).fetchone()
    items = pq.read_table(folder / "items.parquet")
    names = {"item_id": ODD_ID, "title": ODD_TITLE}
    columns = {name: items[name].to_pylist() for name in items.column_names}
    row = int(np.frombuffer(blob, "<i4")[0])
    fallback = (folder / "fallback.json").read_text().replace(json.dumps(columns["item_id"][row]), json.dumps(ODD_ID))
    (folder / "fallback.json").write_text(fallback)
    for name, odd in names.items():
        columns[name][row] = odd
    pq.write_table(pa.table(columns, schema=items.schema), folder / "items.parquet")


@pytest.fixture(scope="module")
def server(store: Store) -> Iterator[Server]:
    server = Server(store, SETTINGS)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    chrome = open_chrome(tmp_path_factory.mktemp("profile"))
    yield chrome
    chrome.quit()


@pytest.fixture
def page(chrome: Chrome, server: Server) -> Iterator[Page]:
    """Fails if the page asked another address, or if the console told of an error that the test did not look for."""
    for kind in ("browser", "performance"):
        chrome.get_log(kind)
    yield Page(chrome, server)
    assert asked(chrome) == {"127.0.0.1"}
    assert not errors(chrome)


def test_it_starts_with_an_example_user_a_history_and_a_list_with_reasons(page: Page) -> None:
    page.open()
    (first,) = page.all("#starters [aria-current=true]")
    assert page.text("#main-title") == f"For {first.get_property('value')}"
    assert len(page.all("#lists .column:first-child li")) == 10
    assert page.all("#history li")
    assert page.text("#lists h3") == "Live: first · two_stage"
    assert "Source of the list: personal" in page.text("#lists")
    assert any("last purchase" in why or "goes with" in why for why in page.texts("#lists li small"))


def test_example_users_are_told_by_segment_and_activity(page: Page) -> None:
    told = page.open().texts("#starters button small")
    assert told[0].endswith(", most active")
    assert {"offices", "families", "no history"} <= set(told)


def test_the_best_possible_list_stands_beside_that_of_an_example_user(page: Page, user: str) -> None:
    page.open().choose("oracle")
    assert page.texts("#lists h3")[1].startswith("Oracle")
    live, best = (page.texts(f"#lists .column:nth-child({column}) .item") for column in (1, 2))
    assert len(best) == 10
    common = f"{len(set(live) & set(best))} of 10 are in the live list too"
    assert page.texts(".overlap") == [common]
    assert len(page.texts(".mark")) == len(set(live) & set(best))
    page.open(user=user, alternatives="oracle")
    assert "for the simulated users above only" in page.text("#lists .column:nth-child(2)")


def test_an_item_has_a_picture_that_is_always_the_same_and_a_price(page: Page, user: str) -> None:
    page.open(user=user)
    pictures, prices = page.all("#lists .tile"), page.texts("#lists .price")
    drawn = [picture.get_property("innerHTML") for picture in pictures]
    assert len(set(map(str, drawn))) == len(page.all("#lists li")) == 10
    assert all(float(price) > 0 for price in prices)
    assert prices
    page.open(user=user, list_kind="new_items").open(user=user)
    assert [picture.get_property("innerHTML") for picture in page.all("#lists .tile")] == drawn


def test_what_the_user_had_is_dated_by_the_releases_last_day(page: Page, user: str, inputs: CheckInput) -> None:
    page.open(user=user)
    rows = Reader(inputs.release).user(user)
    assert rows is not None
    found = [text.split(" · ")[1] for text in page.texts("#history li small")]
    days = [int(days) for days in rows.days]
    assert found == [f"{day} {'day' if day == 1 else 'days'} ago" if day else "on the last day" for day in days]


def test_a_user_is_found_by_the_beginning_of_the_id(page: Page, user: str) -> None:
    page.open().type("#user", user[:-1])
    wait(lambda: user in [option.get_property("value") for option in page.all("#users option")])
    page.type("#user", user).keys(Keys.ENTER)
    assert page.text("#main-title") == f"For {user}"
    assert f"user={user}" in page.chrome.current_url
    assert user in page.chrome.title


def test_only_new_items_can_be_asked_and_the_address_opens_the_same_view(page: Page, user: str) -> None:
    page.open(user=user)
    everything = page.texts("#lists .item")
    page.click("[value=new_items]")
    fresh = page.texts("#lists .item")
    assert fresh != everything
    assert not any("last purchase" in why for why in page.texts("#lists li small"))
    page.chrome.back()
    wait(lambda: page.settle().texts("#lists .item") == everything)
    page.chrome.forward()
    wait(lambda: page.settle().texts("#lists .item") == fresh)
    address = page.chrome.current_url
    page.open()
    page.chrome.get(address)
    assert page.settle().texts("#lists .item") == fresh


@pytest.mark.parametrize("other", ["release:second", "model:shifted"])
def test_lists_stand_side_by_side_with_what_moved_came_and_went(page: Page, user: str, other: str) -> None:
    page.open(user=user).choose(other)
    assert page.text(".overlap") == "9 of 10 as in the live list, 1 came, 1 went"
    assert page.texts(".mark") == ["▲ up 1"] * 9 + ["came", "went, was 1"]
    assert page.text("[aria-label=Went] li").endswith("went, was 1")
    assert page.texts("[aria-label=Went] .item") == page.texts("#lists .item")[:1] == [ODD_TITLE]


def test_all_models_stand_side_by_side(page: Page, user: str) -> None:
    page.open(user=user).choose("models")
    assert page.texts("#lists h3") == ["Live: first · two_stage", "first · same", "first · shifted"]
    assert page.texts(".overlap") == [f"{same} of 10 as in the live list, {10 - same} came, {10 - same} went" for same in (10, 9)]


def test_clicked_items_make_a_session_that_can_be_changed(page: Page, user: str) -> None:
    page.open(user=user).click("#lists li:nth-child(2) .item")
    second, third = page.texts("#lists .item")[1:3]
    assert page.texts("#seen .chips button") == [f"{second} ×"]
    assert second in page.text("#similar p")
    before = page.texts("#session .item")
    assert len(before) == 10
    page.click("#lists li:nth-child(3) .item")
    assert page.texts("#seen .chips button") == [f"{second} ×", f"{third} ×"]
    assert page.texts("#session .item") != before
    page.click("#seen .chips button")
    assert page.texts("#seen .chips button") == [f"{third} ×"]
    clicked = {third}
    for place in ("#similar .item", "#history .item", "#session .item"):
        clicked.add(page.texts(place)[0])
        page.click(place)
    assert sorted(page.texts("#seen .chips button")) == sorted(f"{name} ×" for name in clicked)
    page.click("#seen > button")
    assert not page.all("#seen .chips button") + page.all("#session li") + page.all("#similar li")


def test_names_that_look_like_markup_stay_text(page: Page, user: str) -> None:
    page.open(user=user).click("#lists .item")
    assert ODD_TITLE in page.texts("#lists .item")
    assert page.texts("#seen .chips button") == [f"{ODD_TITLE} ×"]
    assert page.text("#similar p") == f"Items with a purchase by the same users as {ODD_TITLE}"
    page.open(user=ODD_ID, seen=ODD_ID, item=ODD_ID, alternatives=f"release:{ODD_ID}")
    assert page.text("#main-title") == f"For {ODD_ID}"
    assert page.chrome.execute_script("return typeof hurt") == "undefined"
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not errors(page.chrome, "network")


def test_a_stranger_gets_what_is_popular_and_then_that_of_a_segment(page: Page, inputs: CheckInput) -> None:
    page.open(user="nobody")
    assert "stranger" in page.text("#history")
    assert "Source of the list: popular" in page.text("#lists")
    segment = str(inputs.state.users["segment"][0])
    page.type("#segment", segment).keys(Keys.ENTER)
    assert "Source of the list: segment" in page.text("#lists")
    assert not errors(page.chrome, "network")


def test_everything_is_done_by_keyboard(page: Page, user: str) -> None:
    page.open().keys(Keys.TAB)
    assert page.focused() == "Skip to the recommendations"
    page.keys(Keys.TAB)
    assert page.focused() == "user"
    page.type("#user", user).keys(Keys.ENTER)
    assert page.text("#main-title") == f"For {user}"
    page.keys(Keys.TAB, Keys.TAB, Keys.ARROW_RIGHT)
    assert "list_kind=new_items" in page.chrome.current_url
    page.keys(Keys.TAB, Keys.ARROW_DOWN)
    assert "alternatives=" in page.chrome.current_url
    page.keys(*[Keys.TAB] * (1 + len(page.all("#starters button"))))
    first = page.texts("#lists .item")[0]
    assert page.focused() == first
    assert page.chrome.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keys(Keys.ENTER)
    assert page.focused() == first
    assert page.texts("#seen .chips button") == [f"{first} ×"]
    page.chrome.execute_script("document.querySelector('#seen .chips button').focus()")
    page.keys(Keys.ENTER)
    assert page.focused() == "session-title"


def test_screen_readers_find_names_landmarks_and_news(page: Page, user: str) -> None:
    page.open(user=user)
    named = [found for found in page.all("input, select, button") if found.is_displayed()]
    assert all(found.accessible_name for found in named)
    assert {found.aria_role for found in page.all("header, main, nav, form, main section:not([hidden])")} >= {
        "main", "search", "navigation", "region",
    }  # fmt: skip
    assert page.texts("[role=status]") == [f"10 recommendations for {user}, personal"]
    page.click("#lists .item")
    assert page.texts("[role=status]") == ["Session of 1: 10 items"]


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_nothing_is_wider_than_the_screen(page: Page, user: str, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.open(user=user, alternatives="release:second").click("#lists .item")
    assert page.chrome.execute_script("return innerWidth") == width
    assert page.chrome.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    page.chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_service_that_went_away_is_told_and_asked_again(page: Page, user: str) -> None:
    page.open(user=user)
    listed = page.texts("#lists .item")
    page.server.stop()
    page.type("#user", "nobody").keys(Keys.ENTER)
    assert "The service does not answer" in page.text("#notice")
    assert page.text("#lists") == "Not loaded"
    page.server.start()
    page.click("#notice button")
    assert "Source of the list: popular" in page.text("#lists")
    page.type("#user", user).keys(Keys.ENTER)
    assert page.texts("#lists .item") == listed
    assert not page.all("#notice:not([hidden])")
    assert not errors(page.chrome, "network")


def test_what_is_not_there_is_told_in_its_place(page: Page, user: str) -> None:
    page.open(user=user, alternatives="release:none", item="nothing", seen="nothing")
    assert "Not found" in page.text("#similar")
    assert "Not found" in page.text("#session")
    assert "Not found" in page.text("#lists")
    assert len(page.all("#lists li")) == 10
    assert not errors(page.chrome, "network")


def test_before_the_first_release_it_says_so(page: Page, tmp_path: Path) -> None:
    page.server = Server(open_store(str(tmp_path), "shop"), SETTINGS)
    page.open()
    assert "no release is live yet" in page.text("#notice")
    page.server.stop()
    assert not errors(page.chrome, "network")


def test_a_key_is_asked_for_only_where_it_is_needed(page: Page, store: Store, user: str) -> None:
    assert not page.open().all("#key")
    page.server = Server(store, SETTINGS, KEY)
    page.open(user=user)
    assert page.focused() == "key"
    page.type("#key", "wrong").keys(Keys.ENTER)
    assert "does not know this one" in page.text("#notice")
    page.type("#key", KEY).keys(Keys.ENTER)
    assert len(page.all("#lists li")) == 10
    assert page.chrome.execute_script("return sessionStorage.getItem('key')") == KEY
    assert KEY not in page.chrome.current_url
    page.server.stop()
    assert not errors(page.chrome, "network")
