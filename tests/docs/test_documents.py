"""Commands in the documents do what the documents show. Links, files and verbs that they name exist."""

import os
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from sybil import Document

import documents
from command_lines import describe_misuse
from conftest import ROOT

CHANGELOG = ROOT / "CHANGELOG.md"  # its links are checked; it names files and verbs of earlier versions
FOLDERS = (".github", "deploy", "docs")
PAGES = sorted({*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))} - {CHANGELOG})
PAGES += [ROOT / "data" / "README.md"]
COMMAND = re.compile(r"\s*(make|python3?|\.venv/bin/\w+|git|pip|curl) ")
FILES_OF_OURS = (".py", ".sql", ".yml", ".toml", ".md")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(document: Document) -> str:
    """A document without its fenced blocks."""
    text = document.text
    for start, region in reversed(document.regions):
        text = text[:start] + text[region.end :]
    return text


def code_spans(document: Document) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(document))


@cache
def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.*?) *$", prose(documents.parse(page)), re.M):
        anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]+`", "", prose(documents.parse(page)))
    patterns = (r"\]\(<?([^)\s>]+)", r"^\[[^\]]+\]: +(\S+)", r"\b(?:src|href)=\"([^\"]+)\"")
    broken = []
    for target in (target for pattern in patterns for target in re.findall(pattern, text, re.M)):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken, broken


def is_path(span: str) -> bool:
    """Whether a code span is surely a path of this repository. Files of other kinds and single folders may be made by runs."""
    if not re.fullmatch(r"[\w.-]*\w(/[\w.-]+)*/?", span) or span.startswith(("data/", ".venv/")) or span in FILES_OF_OURS:
        return False
    first, _, rest = span.partition("/")
    return span.endswith(FILES_OF_OURS) or (bool(rest) and (span.endswith("/") or (ROOT / first).is_dir()))


@pytest.fixture(scope="module")
def paths() -> list[str]:
    """Files and folders of the repository, and those that the documents tell their readers to make."""
    files = documents.repository_files()
    folders = {f"{parent}/" for file in files for parent in Path(file).parents}
    blocks = [region.parsed for page in PAGES for _, region in documents.parse(page).regions]
    return [*files, *folders, *(block.marks["file"] for block in blocks if "file" in block.marks)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page: Path, paths: list[str]) -> None:
    named = {span for span in code_spans(documents.parse(page)) if is_path(span)}
    missing = [span for span in sorted(named) if not any(path.rstrip("/").endswith(span.rstrip("/")) for path in paths)]
    assert not missing, missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_names_that_are_said_to_be_in_a_file_are_there(page: Path, paths: list[str]) -> None:
    wrong = []
    for word, where in re.findall(r"`(\w+)` (?:in|of) `([\w/]+\.(?:py|sql))`", page.read_text()):
        files = [ROOT / path for path in paths if f"/{path}".endswith(f"/{where}")]
        if not any(re.search(rf"\b{word}\b", file.read_text()) for file in files):
            wrong.append(f"`{word}` in `{where}`")
    assert not wrong, wrong


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_blocks_that_run(page: Path) -> None:
    blocks = [region.parsed for _, region in documents.parse(page).regions]
    shown = [block for block in blocks if block.language != "console" and not {"file", "append"} & block.marks.keys()]
    escaped = [line for block in shown for line in block.text.splitlines() if COMMAND.match(line)]
    assert not escaped, f"tag the blocks console: {escaped}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_verbs_and_variables_that_are_named_exist(page: Path) -> None:
    document = documents.parse(page)
    commands = [command.text for _, region in document.regions for command in region.parsed.commands]
    commands += [documents.prepared_by(document), *(span for span in code_spans(document) if COMMAND.match(span))]
    wrong = [misuse for command in commands if (misuse := describe_misuse(command))]
    assert not wrong, wrong


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder data/ after a command in a clone, made once; by PREPARED=folder it is kept there for the next time."""
    kept = Path(os.environ.get("PREPARED") or tmp_path_factory.mktemp("prepared"))

    def prepare(command: str) -> Path:
        data = kept / re.sub(r"\W+", "_", command)
        if not data.exists():
            folder = tmp_path_factory.mktemp("preparing")
            documents.clone(folder / "clone", folder / "home")
            with documents.Terminal(folder / "clone", folder / "home") as terminal:
                wrong = terminal.run(documents.Command(command))
            assert not wrong, wrong
            shutil.copytree(folder / "clone" / "data", data)
        return data

    return prepare


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_do_what_is_shown(page: Path, tmp_path: Path, prepared: Callable[[str], Path]) -> None:
    document = documents.parse(page)
    if not documents.has_commands(document):
        return
    documents.clone(tmp_path / "clone", tmp_path / "home")
    if command := documents.prepared_by(document):
        shutil.copytree(prepared(command), tmp_path / "clone" / "data", dirs_exist_ok=True)
    documents.run(document, tmp_path / "clone", tmp_path / "home")
