"""The verb that makes a fork of this repository a team's own: it renames the project, empties our measurements and removes what the
team does not need, by the table in fork.toml."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cli.production import ROOT
from cli.terminal import say
from cli.variables import option
from recsys import RecsysError

TABLE = Path(__file__).with_suffix(".toml")
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
HEADER = re.compile(r"^\[+([^\]]+)\]", re.M)
TASTE = ("tests/template", "tests/docs", "tests/documents.py", "tests/command_lines.py")  # tests of our own documents and workflows
ABOUT_TASTE = '\n## Parts that forks remove ... "is_shown and your-data"\n```\n'  # of CONTRIBUTING.md
EMPTY_TABLE = re.compile(r"^#+ [^\n]*\n+\|[^\n]*\|\n\|[-| ]+\|\n+(?!\|)", re.M)  # a heading and the head of a table without a row
LINK = re.compile(r"\[([^\]]+)\]\(([^)#]+)(#[^)]*)?\)")
LINKS_IN_A_ROW = [re.compile(pattern) for pattern in (rf"{LINK.pattern} · ", rf" · {LINK.pattern}")]
KEPT_NAMES = ("CHANGELOG.md", "LICENSE", "docs/fork.md", "docs/upgrade.md")  # what tells where the fork comes from

CHANGELOG = """# Changelog

The form is that of [Keep a Changelog](https://keepachangelog.com).

## [Unreleased]
- Forked from {old} {version}.
"""
BENCHMARKS = """# Benchmarks
What each step costs, by `make bench`. Nothing has been measured yet.

<!-- bench -->
<!-- /bench -->
"""


@dataclass(frozen=True)
class Part:
    """A part that a fork may do without."""

    says: str
    paths: list[str] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)  # of config.toml
    takes: list[str] = field(default_factory=list)  # other parts that need this one
    cuts: dict[str, list[str]] = field(default_factory=dict)  # by file: texts; `first ... last` is all between them, and both


def parts() -> dict[str, Part]:
    return {name: Part(**values) for name, values in tomllib.loads(TABLE.read_text()).items()}


def fork(
    name: Annotated[str, option("the project's new name, such as acme-recs", shown="NAME")] = "",
    without: Annotated[str, option("parts to remove, with spaces between them", shown="PARTS")] = "",
) -> None:
    """Makes a fork a team's own: a new name, no measurements of ours, and only the parts that the team needs."""
    known = parts()
    chosen = without.replace(",", " ").split()
    refuse_unknown(name, chosen, known)
    refuse_uncommitted()
    chosen = with_dependents(chosen, known)
    for part in chosen:
        if was_removed(known[part], known):
            say(f"removed     {part} before; what a merge brought back goes too")
        else:
            check_cuts(part, known[part])
    if name:
        old = project("name")
        empty(old)
        rename(old, name)
        say(f"renamed     {old} to {name}; the measurements, logs and history of the template are emptied")
    for part in chosen:
        remove(known[part])
        say(f"removed     {part}: {known[part].says}")
    delete(TASTE)
    edit("CONTRIBUTING.md", lambda text: cut(ABOUT_TASTE, text))
    clean_pages(naming([known[part] for part in chosen]))
    write_schema()
    say("next        read the changes: git diff. Then make lint test, and git add --all, git commit")
    if name:
        say("            README.md and .github/CODEOWNERS still speak of the template: write your own")
    if any("pyproject.toml" in known[part].cuts for part in chosen):
        say("            make lock takes Python packages that nothing needs any more out of requirements/; it needs uv")
    if "shop" in chosen:
        say("            bring your data: make check-data EVENTS=path, then make run EVENTS=path; docs/your-data.md")


def refuse_unknown(name: str, chosen: Sequence[str], known: dict[str, Part]) -> None:
    if not (name or chosen):
        raise RecsysError(f'neither NAME nor WITHOUT is given; pass NAME=acme-recs, WITHOUT="some of {" ".join(known)}", or both')
    if name and not NAME.fullmatch(name):
        raise RecsysError(f'NAME is "{name}"; it must be lower-case letters, digits and single hyphens, such as acme-recs')
    if name == project("name"):
        raise RecsysError(f'NAME is "{name}", which the project is called already; leave out NAME')
    if unknown := [part for part in chosen if part not in known]:
        raise RecsysError(f'WITHOUT names "{unknown[0]}", which is no part; pass some of {", ".join(known)}')


def refuse_uncommitted() -> None:
    """Raises unless git can bring back everything that is changed here."""
    done = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RecsysError(f"{ROOT} is no git repository ({done.stderr.strip()}); clone the template, or git init and commit it")
    if changed := done.stdout.splitlines():
        raise RecsysError(
            f"{len(changed)} files have changes that are not committed, such as {changed[0][3:]}; commit or stash them first,"
            " so that git diff shows what the fork changed"
        )


def with_dependents(chosen: Iterable[str], known: dict[str, Part]) -> list[str]:
    """The parts, and those that cannot be without them; those first."""
    found: list[str] = []
    for part in chosen:
        found += [one for one in (*with_dependents(known[part].takes, known), part) if one not in found]
    return found


def project(field: str) -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][field])


def was_removed(part: Part, known: dict[str, Part]) -> bool:
    """Whether an earlier `make fork` removed the part: files are missing that belong to it alone. Pages do not count, which a fork
    may have removed by hand."""
    others = [*TASTE, "docs", *(path for other in known.values() if other is not part for path in other.paths)]
    own = [path for path in part.paths if not any(path == other or path.startswith(f"{other}/") for other in others)]
    return any(not list(ROOT.glob(path)) for path in own)


def check_cuts(name: str, part: Part, pages: bool = False) -> None:
    """Raises before anything is changed if a shared file does not hold what is to be cut from it. pages: check README and docs
    too, which a fork may have rewritten."""
    for file, texts in part.cuts.items():
        for text in texts if pages or not file.endswith(".md") else ():
            if (ROOT / file).exists() and not pattern(text).search((ROOT / file).read_text()):
                raise RecsysError(
                    f'{file} does not hold "{text.strip()}", which belongs to {name}; correct [{name}.cuts] in {TABLE.name}'
                )


def pattern(text: str) -> re.Pattern[str]:
    """Of what is cut: a text as it stands, or `first ... last` with everything between the two."""
    first, between, last = text.partition(" => ")[0].partition(" ... ")
    return re.compile(re.escape(first) + (".*?" + re.escape(last) if between else ""), re.S)


def cut(text: str, page: str) -> str:
    """A page without a text, or with what stands after ` => ` in its place."""
    return pattern(text).sub(lambda found: text.partition(" => ")[2], page)


def remove(part: Part) -> None:
    """Deletes the files of a part, and what other files say of it."""
    delete(part.paths)
    for file, texts in part.cuts.items():
        for text in texts:
            edit(file, lambda found, text=text: cut(text, found))  # type: ignore[misc]
    edit("config.toml", lambda text: without_sections(text, part.sections))
    edit("Makefile", lambda text: without_verbs(text, part.verbs))


def delete(paths: Iterable[str]) -> None:
    for path in paths:
        for found in sorted(ROOT.glob(path)):
            shutil.rmtree(found) if found.is_dir() else found.unlink()


def edit(file: str, change: Callable[[str], str]) -> None:
    path = ROOT / file
    if path.exists() and (text := path.read_text()) != (changed := change(text)):
        path.write_text(changed)


def without_sections(config: str, names: Sequence[str]) -> str:
    """config.toml without some sections and those below them. A default dataset that is gone becomes `events`."""
    kept = []
    for block in re.split(r"^(?=\[)", config, flags=re.M):
        header = HEADER.match(block)
        if not (header and any(f"{header[1]}.".startswith(f"{name}.") for name in names)):
            kept.append(block)
    default = re.search(r'^dataset = "(\w+)"', config, re.M)
    gone = default and f"datasets.{default[1]}" in names
    return re.sub(r'^dataset = "\w+"', 'dataset = "events"', "".join(kept), flags=re.M) if gone else "".join(kept)


def without_verbs(makefile: str, verbs: Sequence[str]) -> str:
    """The Makefile without some verbs: their rules, and their names in its lists."""
    for verb in verbs:
        makefile = re.sub(rf"^{verb}:.*\n(\t.*\n)*", "", makefile, flags=re.M)
        lists = re.compile(r"^(VERBS :=|\.PHONY:)(.*\\\n)*.*\n", re.M)
        makefile = lists.sub(lambda found, verb=verb: re.sub(rf"(?<=[ \t]){verb} | {verb}(?=\n)", "", found[0]), makefile)  # type: ignore[misc]
    return makefile


def naming(removed: Sequence[Part]) -> re.Pattern[str]:
    """Of the names of removed files and verbs. It matches nothing if no part is removed."""
    paths = [re.escape(path) for part in removed for path in part.paths]
    return re.compile("|".join([*paths, *(rf"make {verb}\b" for part in removed for verb in part.verbs)]) or r"(?!)")


def clean_pages(named: re.Pattern[str]) -> None:
    """Takes what is gone out of README and docs: rows and list items that name it, tables that lose all rows, and links
    to it. Words of links stay in sentences, but not in rows of links. named: see `naming`."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").glob("README.md")]:
        lines = page.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not (line.startswith(("|", "- ")) and named.search(LINK.sub(r"\1", line)))]
        text = EMPTY_TABLE.sub("", "".join(kept)) if len(kept) < len(lines) else "".join(kept)
        for pattern in LINKS_IN_A_ROW:
            text = pattern.sub(lambda link, page=page: link[0] if leads(link, page) else "", text)  # type: ignore[misc]
        page.write_text(LINK.sub(lambda link, page=page: link[0] if leads(link, page) else link[1], text))  # type: ignore[misc]


def leads(link: re.Match[str], page: Path) -> bool:
    """Whether a link of a page leads somewhere: to an address, or to a file that is there."""
    return "://" in link[2] or (page.parent / link[2]).exists()


def write_schema() -> None:
    """Writes config.schema.json anew, in a process that loads the changed code."""
    done = subprocess.run([sys.executable, str(ROOT / "flows" / "cli"), "schema"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RecsysError(f"config.schema.json is not written: {words}; correct fork.toml or the file it names, then make schema")


def rename(old: str, new: str) -> None:
    """Puts the new name wherever the old one stands in a tracked file, in its spelling."""
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    old_module, new_module = (name.replace("-", "_") for name in (old, new))
    for file in told.split("\0"):
        if file not in KEPT_NAMES and (ROOT / file).is_file():
            with suppress(UnicodeDecodeError):  # an image
                edit(file, lambda text: text.replace(old, new).replace(old_module, new_module))


def empty(old: str) -> None:
    """Removes what was measured and written down in the template."""
    (ROOT / "CHANGELOG.md").write_text(CHANGELOG.format(old=old, version=project("version")))
    (ROOT / "docs" / "benchmarks.md").write_text(BENCHMARKS)
    for file in ("bench.json", "tests/sabotages/results.json"):
        (ROOT / file).write_text(json.dumps({}) + "\n")
    for file in ("cases.jsonl", "expected.jsonl"):
        (ROOT / file).write_text("")
    edit("tuning.md", lambda text: re.sub(r"^- (.*\n)+", "", text, flags=re.M))
    edit("docs/checks.md", lambda text: re.sub(r"(?<=changes by hand are lost. -->\n).*", "", text, flags=re.S))
