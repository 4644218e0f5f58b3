"""`make fork`: what it renames, empties and removes, and that what is left is whole without any of the parts.

`make test-all FORK=all` also runs all quick tests of a fork without any part, as CI does; they take minutes."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import Clone

from cli.fork import ABOUT_TASTE, check_cuts, naming, parts, pattern, with_dependents, without_verbs
from conftest import ROOT, assert_refused

PARTS = parts()
IMPORTED_BY = {  # tests of the packages that imported a part, besides those that go with it
    "shop": ["tests/settings", "tests/test_packages.py"],
    "database": ["tests/settings", "tests/sources/test_events.py"],
    "serving": ["tests/cli/test_variables.py", "tests/test_packages.py"],
    "cloud": ["tests/settings", "tests/cli/test_variables.py"],
    "lightgbm": ["tests/recommenders/test_rankers.py"],
}


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def clone(shared: Clone) -> Iterator[Clone]:
    """A clean clone."""
    yield shared
    shared.reset()


def fork(clone: Clone, *given: str) -> str:
    done = clone.verb("fork", *given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_whole(clone: Clone, *chosen: str) -> None:
    """Lint, types, layers of packages, that every test can be collected, and that no document names what is gone."""
    folders = [name for name in ("flows", "benchmarks", "tests") if (clone.root / name).exists()]
    clone.passes("-m", "ruff", "check", "--quiet", *folders)
    clone.passes("-m", "ruff", "format", "--check", "--quiet", *folders)
    clone.passes("-m", "mypy", *folders)
    clone.passes("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")
    clone.passes("-m", "pytest", "--collect-only", "-q")
    assert not named_in_documents(clone, *chosen)


def named_in_documents(clone: Clone, *chosen: str) -> list[str]:
    """Files and verbs of the parts that the documents still name."""
    named = naming([PARTS[part] for part in with_dependents(chosen, PARTS)])
    pages = set(clone.root.rglob("*.md")) - {clone.root / "CHANGELOG.md"}
    return [f"{page.name}: {found}" for page in sorted(pages) for found in named.findall(page.read_text())]


def test_a_fork_has_its_own_name_and_none_of_our_measurements(clone: Clone) -> None:
    said = fork(clone, "NAME=acme-recs")
    assert "reasonable-recs to acme-recs" in said
    assert tomllib.loads((clone.root / "pyproject.toml").read_text())["project"]["name"] == "acme-recs"
    assert tomllib.loads((clone.root / "config.toml").read_text())["unattended"]["project"] == "acme_recs"
    kept = clone.git("grep", "-l", "-i", "reasonable.recs").split()
    assert set(kept) <= {"CHANGELOG.md", "docs/fork.md", "docs/upgrade.md"}
    assert (clone.root / "bench.json").read_text() == "{}\n"
    assert not re.findall("^- 2", (clone.root / "tuning.md").read_text(), re.M)
    assert "## [0.1.0]" not in (clone.root / "CHANGELOG.md").read_text()
    assert not (clone.root / "tests" / "template").exists()


def test_without_a_data_set_a_run_says_how_to_bring_one(clone: Clone) -> None:
    fork(clone, "WITHOUT=shop")
    readme = (clone.root / "README.md").read_text()
    assert "| a feature |" in readme, "a row that only links to a removed page stays"
    assert "tutorial.md" not in readme
    assert "Start: [concepts]" in readme, "a row of links loses those that lead nowhere, with their words"
    assert "simulates a shop" not in readme
    assert_refused(clone.verb("run"), "EVENTS is not given", "pass EVENTS=path")


def test_no_document_names_what_is_gone(clone: Clone) -> None:
    chosen = ("shop", "cloud", "serving", "database", "fork")
    fork(clone, f"WITHOUT={' '.join(chosen)}")
    assert not named_in_documents(clone, *chosen)
    upgrade = (clone.root / "docs" / "upgrade.md").read_text()
    assert "`tuning.md`" in upgrade, "a row that also names other files stays"
    assert "tests/docs" not in (clone.root / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "neither NAME nor WITHOUT is given"),
        (("NAME=Acme Recs",), 'NAME is "Acme Recs"; it must be lower-case'),
        (("WITHOUT=shop checks",), 'WITHOUT names "checks", which is no part; pass some of shop'),
        (("NAME=reasonable-recs",), "which the project is called already"),
    ],
)
def test_what_cannot_be_done_is_refused(clone: Clone, given: tuple[str, ...], words: str) -> None:
    assert_refused(clone.verb("fork", *given), words)
    assert clone.git("status", "--porcelain") == ""


def test_changes_that_are_not_committed_are_refused(clone: Clone) -> None:
    (clone.root / "notes.txt").write_text("mine")
    assert_refused(clone.verb("fork", "NAME=acme-recs"), "notes.txt", "commit or stash")
    assert (clone.root / "notes.txt").read_text() == "mine"


def test_a_shared_file_that_was_edited_is_named_before_anything_is_removed(clone: Clone) -> None:
    registry = clone.root / "flows" / "recsys" / "sources" / "registry.py"
    registry.write_text(registry.read_text().replace('    "database": Database,\n', '    "sql": Database,\n'))
    clone.commit("Rename it")
    try:
        assert_refused(clone.verb("fork", "WITHOUT=database"), "registry.py does not hold", "fork.toml")
        assert clone.git("status", "--porcelain") == ""
    finally:
        clone.git("reset", "--hard", "--quiet", "HEAD~1")


def test_what_a_merge_brought_back_is_removed_again(clone: Clone) -> None:
    registry, line = "flows/recsys/sources/registry.py", '    "database": Database,\n'
    before = (clone.root / registry).read_text()
    start = clone.git("rev-parse", "HEAD").strip()
    fork(clone, "WITHOUT=database")
    left = (clone.root / registry).read_text()
    try:
        clone.commit("Remove the database")
        (clone.root / registry).write_text(before)
        (clone.root / "tests" / "postgresql.py").write_text("later = 1\n")
        clone.commit("Merge a later version")
        fork(clone, "WITHOUT=database")
        assert line in before
        assert (clone.root / registry).read_text() == left
        assert not (clone.root / "tests" / "postgresql.py").exists()
    finally:
        clone.git("reset", "--hard", "--quiet", start)


@pytest.mark.parametrize("part", PARTS)
def test_the_table_matches_the_files(part: str) -> None:
    check_cuts(part, PARTS[part], pages=True)
    missing = [path for path in PARTS[part].paths if not list(ROOT.glob(path))]
    assert not missing, f"[{part}] of flows/cli/fork.toml names files that do not exist"


def test_what_describes_our_own_tests_is_found() -> None:
    assert pattern(ABOUT_TASTE).search((ROOT / "CONTRIBUTING.md").read_text())


def test_the_makefile_loses_every_verb_of_the_parts() -> None:
    verbs = [verb for part in PARTS.values() for verb in part.verbs]
    left = without_verbs((ROOT / "Makefile").read_text(), verbs)
    (listed,) = re.findall(r"^VERBS := (?:.*\\\n)*.*", left, re.M)
    assert not set(verbs) & set(listed.split())
    assert not [verb for verb in verbs if re.search(rf"^{verb}:", left, re.M)]


def test_the_chapter_names_every_part() -> None:
    chapter = (ROOT / "docs" / "fork.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", chapter, re.M) == list(PARTS)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("part", PARTS)
def test_what_is_left_without_a_part_is_whole(clone: Clone, part: str) -> None:
    fork(clone, f"WITHOUT={part}")
    check_whole(clone, part)
    if part in IMPORTED_BY:
        clone.passes("-m", "pytest", "-q", "-m", "not slow", *IMPORTED_BY[part])


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_what_is_left_without_any_part_is_whole(clone: Clone) -> None:
    fork(clone, "NAME=acme-recs", f"WITHOUT={' '.join(PARTS)}")
    check_whole(clone, *PARTS)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.skipif(os.environ.get("FORK") != "all", reason="takes minutes, and CI runs it: FORK=all")
def test_the_quick_tests_pass_without_any_part(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    fork(clone, "NAME=acme-recs", f"WITHOUT={' '.join(PARTS)}")
    clone.passes("-m", "pytest", "-q", "-m", "not slow", "-n", "2", "--dist", "loadfile")
