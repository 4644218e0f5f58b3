"""Options of the verbs: how they are read and checked, and the common ones, which choose the data and the store.

Each option has two spellings: `--grace-hours 24`, and make's GRACE_HOURS=24.
"""

import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from typer import BadParameter, Option
from typer.core import TyperCommand
from typer.exceptions import TyperException

from cli.production import PRODUCTION, ROOT, branch_name, describe_store, is_shared, store_branch
from recsys import RecsysError, sources
from recsys.settings import Settings, parse, parse_date, read_operations, resolve
from recsys.store import Store, open_store
from recsys.validation import cases, expected_changes

VARIABLE = re.compile(r"[A-Z][A-Z_]*=")
ON = ("1", "true", "yes", "on")
OFF = ("0", "false", "no", "off")
PANEL = "Which data, which store"
CASES = ROOT / "cases.jsonl"
EXPECTED = ROOT / "expected.jsonl"
shared_stores: list[str] = []  # description of the shared store that this command works in, for its last line


class Range(NamedTuple):
    """Reads a number from `least` to `most`. With `above`, `least` itself is not allowed."""

    least: float
    most: float
    is_whole: bool = False
    above: bool = False

    def __str__(self) -> str:
        limits = f"above {self.least:g} and up to {self.most:,}" if self.above else f"from {self.least:,} to {self.most:,}"
        return f"a {'whole ' * self.is_whole}number {limits}"

    def __call__(self, text: str) -> float:
        try:
            value = int(text) if self.is_whole else float(text)
        except ValueError:
            value = math.nan
        if not self.least <= value <= self.most or (self.above and value == self.least):
            raise BadParameter(f'is "{text}"; it must be {self}')
        return value


def day(text: str) -> date:
    """Reads a date, such as 2025-01-31."""
    try:
        return parse_date(text)
    except ValueError as error:
        raise BadParameter(f'is "{text}"; {error}') from None


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Returns a function that reads one of some names."""
    allowed = tuple(names)

    def read(text: str) -> str:
        if text not in allowed:
            raise BadParameter(f'is "{text}"; pass one of {", ".join(allowed)}')
        return text

    return read


def file_of(*suffixes: str) -> Callable[[str], Path]:
    """Returns a function that reads the path of a file to write, with one of some suffixes and in a folder that exists."""

    def read(text: str) -> Path:
        path = Path(text)
        if path.suffix not in suffixes:
            raise BadParameter(f'is "{text}"; pass a {" or ".join(suffixes)} file')
        if not path.parent.is_dir():
            raise BadParameter(f'is "{text}", but there is no folder {path.parent}; create it, or pass another file')
        return path

    return read


def option(help: str, *names: str, read: Callable[[str], Any] | None = None, shown: str = "", panel: str = "Options") -> Any:
    """An option of a verb. help: its text in `--help`. names: spellings, if they differ from the parameter's name. read: turns the
    text into a value or raises BadParameter. shown: placeholder of the value. panel: heading in `--help`."""
    return Option(*names, help=help, parser=read, metavar=shown or None, show_default=False, rich_help_panel=panel)


class Verb(TyperCommand):
    """A command that also takes its options as make's variables (NAME=value), before all other arguments. Empty values are
    ignored."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        variables = list(takewhile(VARIABLE.match, args))
        options = [part for argument in variables for part in self._to_options(*argument.split("=", 1))]
        return super().parse_args(ctx, options + args[len(variables) :])

    def _to_options(self, name: str, text: str) -> list[str]:
        known = {variable(param): param for param in self.params}
        value = text.strip()
        if name not in known:
            close = get_close_matches(name, known, 1)
            advice = f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
            raise BadParameter(f"is no variable of `make {self.name}`; {advice}", param_hint=name)
        flag = known[name].opts[0]
        if not getattr(known[name], "is_flag", False):
            return [f"{flag}={value}"] * bool(value)
        if value.lower() not in (*ON, *OFF, ""):
            raise BadParameter(f'is "{value}"; it must be 1 or 0', param_hint=name)
        return [flag] * (value.lower() in ON)


def variable(param: Any) -> str:
    """The make variable of an option."""
    return param.opts[0].lstrip("-").replace("-", "_").upper()


def describe_misuse(error: TyperException) -> str:
    """Describes an invalid command line in one line: the variable, its value, and what to pass."""
    param: Any = getattr(error, "param", None)
    hint = getattr(error, "param_hint", None)
    if not (param or hint):
        return " ".join(error.format_message().split())
    name = hint or variable(param)
    return f"{name} {error.message}" if error.message else f"{name} is not given; pass {name}=, {param.help}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """The options that choose data and store; all verbs that need either have them."""

    dataset: Annotated[
        str, option("a section [datasets.*] of config.toml; by default, its setting `dataset`", shown="NAME", panel=PANEL)
    ] = ""
    as_of: Annotated[date | None, option("use only events before this day", read=day, shown="YYYY-MM-DD", panel=PANEL)] = None
    sample: Annotated[
        float,
        option(
            "use only this share of the users, for a quick run, such as 0.1",
            read=Range(0, 1, above=True),
            shown="SHARE",
            panel=PANEL,
        ),
    ] = 1.0
    raw: Annotated[str, option("the raw file, for a source such as online_retail", shown="PATH", panel=PANEL)] = ""
    events: Annotated[str, option("a file, folder or s3:// path of your events", shown="PATH", panel=PANEL)] = ""
    items: Annotated[str, option("the same of your items, if you have any", shown="PATH", panel=PANEL)] = ""
    users: Annotated[str, option("the same of your users, if you have any", shown="PATH", panel=PANEL)] = ""
    store: Annotated[str, option("root of the store, instead of store.root of config.toml", shown="PATH", panel=PANEL)] = ""
    production: Annotated[bool, option("use the production store instead of your own branch", "--production", panel=PANEL)] = False
    branch: Annotated[str, option("use the store of a deployed branch, such as feature/x", shown="NAME", panel=PANEL)] = ""

    @property
    def inputs(self) -> dict[str, str]:
        """Paths of the source's files, by table."""
        paths = {"raw": self.raw, "events": self.events, "items": self.items, "users": self.users}
        return {name: path for name, path in paths.items() if path}

    @property
    def root(self) -> str:
        """Root of the store."""
        return self.store or read_config()["store"]["root"]

    @property
    def branch_name(self) -> str:
        """The branch as Metaflow names it: `prod` by PRODUCTION=1, `test.x` by BRANCH=x, or the user's own."""
        if not self.production:
            return branch_name(self.branch) or f"user.{user()}"
        if self.branch:
            raise RecsysError(f'PRODUCTION=1 and BRANCH "{self.branch}" choose two different stores; pass only one of them')
        return PRODUCTION

    @property
    def flow_options(self) -> list[str]:
        """Metaflow's option that makes a flow run in production; empty for the user's own branch."""
        return ["--production"] if self.branch_name == PRODUCTION else []

    def settings(self) -> Settings:
        """The settings of the dataset. Raises RecsysError if its source does not read the files that the variables name."""
        chosen = resolve(read_config(), self.dataset, str(self.as_of or ""), self.sample, self.inputs)
        if self.inputs:
            sources.check_inputs(chosen.dataset.source, self.inputs, chosen.dataset_name)
        return chosen

    def checked_settings(self) -> Settings:
        """The settings of the dataset, after checking everything in config.toml that a flow depends on."""
        from recsys.pipeline import check_settings

        chosen = self.settings()
        check_settings(chosen)
        sources.open_source(chosen.dataset, chosen.store.endpoint)  # refuses a source whose files are not given
        to = read_operations(read_config()).alerts.to
        if to != "stdout" and (ROOT / to).is_dir():
            raise RecsysError(f'config: alerts.to is "{to}", which is a directory; name a file in it')
        return chosen

    def open(self) -> tuple[Settings, Store]:
        """The settings and the store of a dataset. Below a shared root it is the user's own, unless PRODUCTION=1 or BRANCH= is
        given."""
        chosen = self.settings()
        kept = open_store(self.root, chosen.name, ROOT, store_branch(self.branch_name, self.root), chosen.store.endpoint)
        note(self.root, self.branch_name)
        return chosen, kept

    def open_release(self, named: str = "") -> tuple[Settings, Store, str]:
        """The settings, the store, and the id of the named release or, by default, of the live one."""
        chosen, kept = self.open()
        if named and kept.find("release", named) is None:
            raise kept.unknown("release", named)
        if release := named or kept.current():
            return chosen, kept, release
        raise no_release(chosen)


def no_release(chosen: Settings) -> RecsysError:
    return RecsysError(f"{chosen.name} has no release yet; `make run DATASET={chosen.name}` makes one, or pass another DATASET=")


def read_config() -> dict[str, Any]:
    """The values of config.toml, with the lines of cases.jsonl and expected.jsonl if these exist."""
    known = cases.parse(CASES.read_text()) if CASES.exists() else []
    changes = expected_changes.parse(EXPECTED.read_text()) if EXPECTED.exists() else []
    return parse((ROOT / "config.toml").read_text()) | {"cases": known, "expected": changes}


def point_metaflow() -> None:
    """Sets the address of an S3-compatible store for Metaflow, which also keeps its own files there and passes it to containers."""
    if endpoint := read_config().get("store", {}).get("endpoint"):
        os.environ["METAFLOW_S3_ENDPOINT_URL"] = str(endpoint)


def note(root: str, branch: str) -> None:
    """Remembers a shared store, so that the command's last line or its error names it."""
    if is_shared(root):
        shared_stores[:] = [describe_store(root, branch)]


def user() -> str:
    """The user's name in Metaflow."""
    return os.environ.get("METAFLOW_USER", "")
