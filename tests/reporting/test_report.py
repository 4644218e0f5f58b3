"""The report: whole HTML that needs nothing from outside, escapes what it is given, and says what it could not find."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from conftest import Fork, assert_refused, make_settings
from recsys.settings.run import Settings
from recsys.store.snapshots import Store, open_store
from recsys.validation_report import Limits, SourceLimits, ValidationReport
from reporting.plots import PlotRow, Scale, plot
from reporting.report import render, settings_of
from reporting.statements import count, result, silent

pytestmark = pytest.mark.slow

VOID = {"meta", "br", "wbr"}
DRAWN = {"line", "circle"}
LOUD = """<b id='x'>"loud"</b> & co"""


class Page(HTMLParser):
    """Raises on a tag that is closed out of turn; keeps text, addresses and the ids that addresses may name."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.words = ""
        self.addresses: list[str] = []
        self.ids: set[str | None] = set()
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src") and value]
        self.ids |= {value for name, value in attrs if name == "id"}

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in DRAWN

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """A fork with one release and its report."""
    fork = Fork(tmp_path_factory.mktemp("fork"))
    for verb in ("run", "report"):
        result = fork.run(verb)
        assert result.returncode == 0, result.stdout + result.stderr
    return fork


@pytest.fixture(scope="module")
def html(fork: Fork) -> str:
    return (fork.root / "data" / "report.html").read_text()


@pytest.fixture
def copy(fork: Fork, tmp_path: Path) -> Store:
    """The fork's store, without the run that filled it."""
    shutil.copytree(fork.store(), tmp_path / "shop")
    return open_store(str(tmp_path), "shop")


def rendered(store: Store, id: str = "") -> Page:
    release = store.load("release", id or str(store.current()))
    return Page(render(store, release, settings_of(release.manifest, make_settings())))


def change_report(store: Store, release: str, check: str, **changes: object) -> None:
    """Changes the first check result of a check in a release's validation report."""
    report = json.loads(store.report(release) or b"")
    for part in ("on_model", "on_data"):
        if check in report[part]:
            report[part][check][0] |= changes
    store.attach_report(release, json.dumps(report).encode())


def add_release(store: Store, id: str) -> None:
    """One with the live one's files and report, said to be of another seed; it is not published."""
    first = store.load("release", str(store.current()))
    with store.draft() as folder:
        for name in first.manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(first.path / name, folder / name)
        made_from = first.manifest.made_from | {"seeds": {"run": 8}}
        store.commit(folder, "release", made_from, first.manifest.parents, id)
    store.attach_report(id, store.report(first.manifest.id) or b"")


def test_it_names_every_result_in_its_words_and_every_recommender(fork: Fork, html: str) -> None:
    page = Page(html)
    report = json.loads((fork.store() / "releases" / str(fork.current()) / "validation_report.json").read_text())
    found = [one for part in ("on_model", "on_data") for check in report[part].values() for one in check]
    assert len(found) > 10
    for one in found:
        assert one["name"] in page.words
        assert one["message"].replace("`", "") in page.words
    for words in ("popularity", "repeat_purchase", "item_to_item", "two_stage", "live", str(fork.current())):
        assert words in page.words


def test_it_needs_nothing_from_outside_and_links_to_what_is_there(fork: Fork, html: str) -> None:
    assert not re.search(r"://|url\(|@import|<script|<link|<img", html)
    page = Page(html)
    for address in page.addresses:
        if address.startswith("#"):
            assert address[1:] in page.ids
        else:
            assert (fork.root / "data" / address).is_file()
    assert {"docs/expectations/index.html", "docs/dbt/index.html"} <= set(page.addresses)
    assert "card.html" not in page.addresses
    assert "from other sites" in page.words


def test_data_docs_hold_the_border_checks(fork: Fork, html: str) -> None:
    folder = fork.root / "data" / "docs" / "expectations" / "expectations"
    assert sorted(path.stem for path in folder.glob("*.html")) == ["lists_all_items", "lists_new_items", "raw"]
    assert sum("validations/" in address for address in Page(html).addresses) == 3


def test_without_the_run_the_page_is_the_same_but_for_its_links(copy: Store, html: str) -> None:
    page = rendered(copy)
    assert page.ids == Page(html).ids - {"links"}
    assert page.words.count("item_to_item") == Page(html).words.count("item_to_item")


def test_it_answers_in_the_order_in_which_people_ask(copy: Store) -> None:
    release = copy.load("release", str(copy.current()))
    report = ValidationReport.read(copy.report(release.manifest.id))
    assert report
    value, source = (0.5, 0.4, 0.6), SourceLimits(0.5, 0.1, (0.1, 0.0, 0.2))
    limits = Limits("2024-06-01", 20, value, value, value, {"own": source}, {"days_since_target": value})
    copy.attach_report(release.manifest.id, replace(report, limits={"all_items": limits}).to_json())
    html = render(copy, release, settings_of(release.manifest, make_settings()))
    order = ("better", "whom", "changes", "limits", "drift", "history", "checks", "lineage")
    places = [html.index(f'<section id="{id}">') for id in order]
    assert places == sorted(places)
    assert html.index('class="answer"') < places[0]


def test_only_failed_check_results_are_open(copy: Store) -> None:
    change_report(copy, str(copy.current()), "drift", passed=False, severity="warn", message="the stars moved")
    release = copy.load("release", str(copy.current()))
    html = render(copy, release, settings_of(release.manifest, make_settings()))
    checks = html[html.index('id="checks"') : html.index('id="lineage"')]
    opened, folded = checks.split("check results passed", 1)
    assert "the stars moved" in opened
    report = ValidationReport.read(copy.report(release.manifest.id))
    assert report
    warned = sum(not result.passed for result in report.results)
    assert opened.count('class="mark') == warned
    assert f" {warned} warning" in Page(html).words
    assert 'class="mark passed"' in folded
    assert 'class="mark warned"' not in folded


def test_a_refused_release_says_so_first_with_the_reason_and_what_to_do(copy: Store) -> None:
    add_release(copy, "20240719-second")
    change_report(
        copy, "20240719-second", "lists", passed=False, severity="block", message="too short", advice="Look: `make report`"
    )
    words = rendered(copy, "20240719-second").words
    places = [words.index(part) for part in ("was not published", "too short", "Look: make report", "Is it better?")]
    assert places == sorted(places)
    assert "has not changed" in words


def test_without_features_or_report_it_says_so(copy: Store, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "shop" / "features")
    (tmp_path / "shop" / "releases" / str(copy.current()) / "validation_report.json").write_text("[]")
    page = rendered(copy)
    assert "no validation report that can be read" in page.words
    assert "gone from the store" in page.words


def test_a_second_release_tells_what_changed_and_its_history(copy: Store) -> None:
    first = str(copy.current())
    assert "This is the first release" in rendered(copy).words
    add_release(copy, "20240719-second")
    copy.point("20240719-second", first)
    page = rendered(copy)
    changes = page.words[page.words.index("What changed since the last release?") :]
    assert "seeds.run" in changes
    assert f"From {first} to this release" in changes
    assert "live, this one" in changes
    assert "0.0% of" in changes


def test_what_it_is_given_is_escaped(copy: Store, tmp_path: Path) -> None:
    folder = tmp_path / "shop" / "releases" / str(copy.current())
    for name, path in (
        ("validation_report.json", ("on_model", "baseline", 0, "message")),
        ("manifest.json", ("made_from", "recommender")),
    ):
        values = json.loads((folder / name).read_text())
        place = values
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = LOUD
        values.pop("hash", None)  # else the manifest would be refused
        (folder / name).write_text(json.dumps(values))
    page = rendered(copy)
    assert page.words.count(LOUD) > 3
    assert "x" not in page.ids


def test_a_release_that_is_not_there_is_one_line(fork: Fork) -> None:
    assert_refused(fork.run("report", RELEASE="20240101-nope"), "20240101-nope")


def test_the_result_in_a_sentence() -> None:
    assert result(None, "live") == "Live, without validation report that can be read."
    assert [count(number, "check", "checks") for number in range(3)] == ["no checks", "1 check", "2 checks"]
    assert set(silent(None)) >= {"raw", "lists", "baseline"}


def test_ticks_are_round_and_inside() -> None:
    assert Scale(0, 0.6).ticks() == [0, 0.2, 0.4, 0.6]
    assert Scale(0.381, 0.447).ticks() == [0.4, 0.42, 0.44]
    assert Scale(0, 2)(0.5) == "25.00%"


@pytest.mark.parametrize("dots", [[], [0.0], [0.3, 0.3], [-1.0, 2.0]])
def test_a_plot_of_anything_is_whole(dots: list[float]) -> None:
    assert LOUD in Page(str(plot([PlotRow(LOUD, dots, ["words"])], "caption", zero=False))).words


def test_settings_that_the_code_has_outgrown_give_way_to_the_present_ones(copy: Store, settings: Settings) -> None:
    release = copy.load("release", str(copy.current())).manifest
    assert settings_of(release, settings).features.history_cap == settings.features.history_cap
    release.made_from["config"]["gone"] = 1
    assert settings_of(release, settings) is settings
