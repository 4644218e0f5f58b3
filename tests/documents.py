"""Runs the command blocks of documents as a reader would, in a clone of the repository. CONTRIBUTING.md explains the marks."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.example import SybilFailure
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from conftest import ROOT

FENCE = RawFencedCodeBlockLexer(re.compile(r"[ \t]*(?P<language>\S*)[^\n]*\n"))
COMMENT = r"<!-- (.*?) -->\s*"
COMMENTS_ABOVE = re.compile(rf"(?:{COMMENT})+\Z")
MARK = re.compile(r"(not run|file|append|after): (\S.*)|(fails|in the background)")
HEREDOC = re.compile(r"(?<!<)<<(?!<)-?\s*['\"]?(\w+)")
OUTSIDE = ("PATH", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TZ")  # the only variables that a document's commands inherit
MAKEFILE = (ROOT / "Makefile").read_text()
SHOWN_LINES = 60  # of the output of a command that failed
END_SECONDS = 20  # within which commands in the background end after SIGTERM
START_SECONDS = 120  # within which a command in the background prints what the document shows


@dataclass
class Command:
    text: str
    expected: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the command goes on in the next line."""
        heredoc = HEREDOC.search(self.text)
        return self.text.endswith("\\") or bool(heredoc and heredoc[1] not in self.text.splitlines()[1:])


@dataclass(frozen=True)
class Block:
    """A fenced block. `marks`: of the comments above it, by name; the value is empty where a mark has none."""

    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)


def parse(path: Path) -> Document:
    """A document whose examples are its fenced blocks. Raises ValueError on unknown marks and commands without `$ `."""
    return Sybil([parse_blocks]).parse(path)


def parse_blocks(document: Document) -> Iterator[Region]:
    for region in FENCE(document):
        if document.text.startswith("    ", region.start):
            continue  # an indented fence is text
        place = f"{Path(document.path).name}, {document.line_column(region.start)}"
        above = COMMENTS_ABOVE.search(document.text, 0, region.start)
        marks = _read_marks(re.findall(COMMENT, above[0]) if above else [], place)
        language, text = str(region.lexemes["language"]), str(region.lexemes["source"])
        block = Block(language, text, marks, _read_commands(text, place) if language == "console" else [])
        yield Region(region.start, region.end, block, _evaluator(block))


def _read_marks(comments: list[str], place: str) -> dict[str, str]:
    marks = {}
    for comment in comments:
        if not (mark := MARK.fullmatch(comment)):
            raise ValueError(f'{place}: "{comment}" is no mark of a block; CONTRIBUTING.md lists them')
        marks[mark[1] or mark[3]] = mark[2] or ""
    return marks


def _read_commands(text: str, place: str) -> list[Command]:
    commands: list[Command] = []
    for line in text.splitlines():
        if commands and not commands[-1].expected and commands[-1].is_open:
            commands[-1].text += f"\n{line}"
        elif line.startswith("$ "):
            commands.append(Command(line[2:]))
        elif commands:
            commands[-1].expected += f"{line}\n"
        else:
            raise ValueError(f'{place}: a console block begins with "{line}"; write each command after "$ "')
    return commands


def _evaluator(block: Block) -> Callable[[Example], str] | None:
    if "not run" in block.marks:
        return None
    if "file" in block.marks or "append" in block.marks:
        return write_file
    return run_commands if block.language == "console" else None


def prepared_by(document: Document) -> str:
    """The command that was run before the document begins, or nothing."""
    found = re.search(r"^<!-- after: (.+?) -->", document.text, re.M)
    return found[1] if found else ""


def has_commands(document: Document) -> bool:
    return any(example.region.evaluator for example in document.examples())


def run(document: Document, folder: Path, home: Path) -> None:
    """Runs or writes a document's blocks in a folder, in order. Raises AssertionError with all that is not as the document says."""
    failures = []
    with Terminal(folder, home) as terminal:
        document.namespace["terminal"] = terminal
        for example in document.examples():
            try:
                example.evaluate()
            except SybilFailure as failure:
                failures.append(str(failure))
    assert not failures, "\n\n".join(failures)


def write_file(example: Example) -> str:
    """Writes or appends a block. Returns what is wrong, or nothing."""
    block: Block = example.parsed
    folder = example.namespace["terminal"].folder
    if "append" in block.marks:
        path = folder / block.marks["append"]
        if not path.exists():
            return f"{path.name} does not exist, and a block is to be appended to it"
        path.write_text(path.read_text() + block.text)
    else:
        path = folder / block.marks["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
    return ""


def run_commands(example: Example) -> str:
    """What is not as the block says, or nothing."""
    terminal: Terminal = example.namespace["terminal"]
    wrong = []
    for command in example.parsed.commands:
        if "in the background" in example.parsed.marks:
            found = terminal.start(command)
        else:
            found = terminal.run(command, fails="fails" in example.parsed.marks)
        if found:
            wrong.append(f"$ {command.text}\n{found}")
    return "\n\n".join(wrong)


class Terminal:
    """A shell that keeps its folder and variables between commands. At the end, all that it started is ended."""

    def __init__(self, folder: Path, home: Path):
        self.folder, self.home, self.count = folder, home, 0
        home.mkdir(exist_ok=True)
        self.shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment(home),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> "Terminal":
        self._send("trap : TERM")  # the shell outlives what it started
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.shell.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.shell.communicate("wait\n", timeout=END_SECONDS)
            os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.communicate()

    def _send(self, line: str) -> None:
        assert self.shell.stdin
        self.shell.stdin.write(f"{line}\n")
        self.shell.stdin.flush()

    def _answer(self) -> int:
        assert self.shell.stdout
        return int(self.shell.stdout.readline() or self.shell.wait())

    def _script(self, command: Command) -> tuple[str, Path]:
        """How the shell reads a command from a file, and where its output goes."""
        self.count += 1
        script, output = (self.home / f"{self.count}.{kind}" for kind in ("sh", "txt"))
        script.write_text(f"{command.text}\n")
        output.touch()
        return f"{{ . {shlex.quote(str(script))}; }} > {shlex.quote(str(output))} 2>&1 < /dev/null", output

    def run(self, command: Command, fails: bool = False) -> str:
        """Waits for a command to end. Returns what is not as expected, or nothing."""
        script, output = self._script(command)
        self._send(f"{script}; echo $?")
        code = self._answer()
        if bool(code) != fails:
            return f"ended with exit code {code}\n{describe(command, output)}"
        return "" if not command.expected.strip() or matches(command.expected, output) else describe(command, output)

    def start(self, command: Command) -> str:
        """Starts a command in the background, and waits for its output to begin as expected. Returns what is not, or nothing."""
        if not command.expected.strip():
            return "runs in the background; show the output that tells that it has started"
        script, output = self._script(command)
        self._send(f"{{ trap : TERM; {script}; }} & echo $!")
        process, deadline = self._answer(), time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            has_ended = not exists(process)
            if matches(f"{command.expected}...", output):
                return ""
            if has_ended:
                return f"has ended\n{describe(command, output)}"
            time.sleep(0.2)
        return f"is not as expected after {START_SECONDS} seconds\n{describe(command, output)}"


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def matches(expected: str, output: Path) -> bool:
    """Whether output is as expected. `...` stands for any lines or any text in a line, or none; trailing blanks do not count."""
    lines = [re.sub(r"\s+\.\.\.$", "...", line.rstrip()) for line in expected.strip("\n").splitlines()]
    parts = [r"(?:.*\n)*?" if line == "..." else ".*?".join(map(re.escape, line.split("..."))) + r"\n" for line in lines]
    printed = "".join(f"{line.rstrip()}\n" for line in output.read_text().strip("\n").splitlines())
    return bool(re.fullmatch("".join(parts), printed))


def describe(command: Command, output: Path) -> str:
    """What was expected, which of its lines is the first that was not printed, and what was printed."""
    lines = command.expected.strip("\n").splitlines()
    missing = (line for count, line in enumerate(lines, 1) if not matches("\n".join([*lines[:count], "..."]), output))
    printed = "\n".join(output.read_text().splitlines()[-SHOWN_LINES:])
    expected = (
        f"expected:\n{command.expected}\nfirst of these lines that was not printed: {next(missing, 'none')}\n" if lines else ""
    )
    return f"{expected}printed:\n{printed or '(nothing)'}"


def environment(home: Path) -> dict[str, str]:
    """Variables of a new login, without those of the tests, of make and of the user's accounts. Nothing can be installed."""
    return {name: os.environ[name] for name in OUTSIDE if name in os.environ} | {"HOME": str(home), "PIP_NO_INDEX": "1"}


def repository_files() -> list[str]:
    """Files of the working tree that are not ignored."""
    listed = subprocess.check_output(["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, text=True)
    return [name for name in listed.split("\0") if (ROOT / name).is_file()]


def clone(folder: Path, home: Path) -> None:
    """A clone of the repository. The working tree's changes are one more commit. Packages are those of these tests."""

    def git(*arguments: str | Path) -> None:
        subprocess.run(["git", *arguments], cwd=home, env=environment(home), check=True, stdout=subprocess.DEVNULL)

    home.mkdir(exist_ok=True)
    for name, value in (("user.name", "reader"), ("user.email", "reader@example.com"), ("safe.directory", "*")):
        git("config", "--global", name, value)
    git("clone", "--quiet", "--no-checkout", ROOT, folder)
    for name in repository_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    git("-C", folder, "add", "--all")
    git("-C", folder, "commit", "--quiet", "--allow-empty", "--message", "Working tree")

    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.startswith("."):
            (folder / ".venv" / path.name).symlink_to(path)
    for marker in re.findall(r"\.venv/(\.[a-z]+)", MAKEFILE):
        (folder / ".venv" / marker).touch()
