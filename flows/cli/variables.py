"""Options of the verbs, typed and checked, and what the common ones mean: which data, which store. Each option has two spellings:
`--grace-hours 24`, and make's GRACE_HOURS=24."""

import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from itertools import takewhile
from typing import Annotated, Any, NamedTuple

from typer import BadParameter, Option
from typer.core import TyperCommand
from typer.exceptions import TyperException

from cli.production import PRODUCTION, ROOT, branch_name, describe_store, is_shared, store_branch
from recsys import RecsysError
from recsys.settings import Settings, parse, parse_date, resolve
from recsys.settings import read as read_operations
from recsys.store import Store, open_store
from recsys.validation import cases, expected_changes

GIVEN = re.compile(r"[A-Z][A-Z_]*=")
ON = ("1", "true", "yes", "on")
OFF = ("0", "false", "no", "off")
PANEL = "Which data, which store"
CASES = ROOT / "cases.jsonl"
EXPECTED = ROOT / "expected.jsonl"
opened: list[str] = []  # the shared store that this command works in, in words


class Range(NamedTuple):
    """Reads a number from `least` to `most`; without the `least` itself if it is `above`."""

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
    """Reads a date."""
    try:
        return parse_date(text)
    except ValueError as error:
        raise BadParameter(f'is "{text}"; {error}') from None


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Reads one of some words."""
    allowed = tuple(names)

    def read(text: str) -> str:
        if text not in allowed:
            raise BadParameter(f'is "{text}"; pass one of {", ".join(allowed)}')
        return text

    return read


def option(help: str, *names: str, read: Callable[[str], Any] | None = None, shown: str = "", panel: str = "Options") -> Any:
    """An option with its text in `--help`. `read` makes its value of a text, or refuses it; `shown` stands for the value."""
    return Option(*names, help=help, parser=read, metavar=shown or None, show_default=False, rich_help_panel=panel)


class Verb(TyperCommand):
    """A command that also takes its options as make's variables, if these come first. Empty ones are not given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(takewhile(GIVEN.match, args))
        options = [part for one in given for part in self._to_options(*one.split("=", 1))]
        return super().parse_args(ctx, options + args[len(given) :])

    def _to_options(self, name: str, text: str) -> list[str]:
        known = {variable(param): param for param in self.params}
        value = text.strip()
        if name not in known:
            close = get_close_matches(name, known, 1)
            mend = f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
            raise BadParameter(f"is no variable of `make {self.name}`; {mend}", param_hint=name)
        flag = known[name].opts[0]
        if not getattr(known[name], "is_flag", False):
            return [f"{flag}={value}"] * bool(value)
        if value.lower() not in (*ON, *OFF, ""):
            raise BadParameter(f'is "{value}"; it must be 1 or 0', param_hint=name)
        return [flag] * (value.lower() in ON)


def variable(param: Any) -> str:
    """How make names an option."""
    return param.opts[0].lstrip("-").replace("-", "_").upper()


def describe_misuse(error: TyperException) -> str:
    """What is wrong with a command line, in one line: which variable, its value, and what to pass."""
    param: Any = getattr(error, "param", None)
    hint = getattr(error, "param_hint", None)
    if not (param or hint):
        return " ".join(error.format_message().split())
    name = hint or variable(param)
    return f"{name} {error.message}" if error.message else f"{name} is not given; pass {name}=, {param.help}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Options that verbs have in common."""

    dataset: Annotated[str, option("dataset of config.toml; by default, the one named there", shown="NAME", panel=PANEL)] = ""
    as_of: Annotated[date | None, option("use only events before this day", read=day, shown="YYYY-MM-DD", panel=PANEL)] = None
    sample: Annotated[
        float, option("share of the users, for a quick look", read=Range(0, 1, above=True), shown="SHARE", panel=PANEL)
    ] = 1.0
    raw: Annotated[str, option("the file of a source that reads one, such as online_retail", shown="PATH", panel=PANEL)] = ""
    events: Annotated[str, option("your events, for dataset events", shown="PATH", panel=PANEL)] = ""
    items: Annotated[str, option("your items", shown="PATH", panel=PANEL)] = ""
    users: Annotated[str, option("your users", shown="PATH", panel=PANEL)] = ""
    store: Annotated[str, option("root of the store, instead of store.root of config.toml", shown="PATH", panel=PANEL)] = ""
    production: Annotated[bool, option("work in the production store, not in your own branch", "--production", panel=PANEL)] = False
    branch: Annotated[str, option("branch that is deployed, such as feature/x", shown="NAME", panel=PANEL)] = ""

    @property
    def inputs(self) -> dict[str, str]:
        """Paths to the files of the source, by table."""
        given = {"raw": self.raw, "events": self.events, "items": self.items, "users": self.users}
        return {name: path for name, path in given.items() if path}

    @property
    def root(self) -> str:
        """Where stores lie."""
        return self.store or read_config()["store"]["root"]

    @property
    def branch_name(self) -> str:
        """The branch as Metaflow names it: `prod` by PRODUCTION=1, `test.x` by BRANCH=x, or the user's own."""
        if not self.production:
            return branch_name(self.branch) or f"user.{user()}"
        if self.branch:
            raise RecsysError(f'PRODUCTION=1 and BRANCH "{self.branch}" are two places; pass one of them')
        return PRODUCTION

    @property
    def flow_options(self) -> list[str]:
        """Makes a flow run in production; without it, the flow runs in the user's own branch."""
        return ["--production"] if self.branch_name == PRODUCTION else []

    def settings(self) -> Settings:
        """Settings of the dataset."""
        return resolve(read_config(), self.dataset, str(self.as_of or ""), self.sample, self.inputs)

    def checked_settings(self) -> Settings:
        """The same, after all of config.toml that a flow depends on was checked."""
        from recsys.pipeline import check_settings
        from recsys.sources import open_source

        chosen = self.settings()
        check_settings(chosen)
        open_source(chosen.dataset, chosen.store.endpoint)  # refuses a source whose files are not given
        to = read_operations(read_config()).alerts.to
        if to != "stdout" and (ROOT / to).is_dir():
            raise RecsysError(f'config: alerts.to is "{to}", which is a directory; name a file in it')
        return chosen

    def open_store(self, chosen: Settings | None = None) -> Store:
        """The store of a dataset. It is production's by PRODUCTION=1 only, unless it is a directory on this machine."""
        chosen = chosen or self.settings()
        kept = open_store(self.root, chosen.name, ROOT, store_branch(self.branch_name, self.root), chosen.store.endpoint)
        note(self.root, self.branch_name)
        return kept

    def open_release(self, named: str = "") -> tuple[Settings, Store, str]:
        """Settings, the store, and the id of a release: the one that is named, or the live one."""
        chosen = self.settings()
        kept = self.open_store(chosen)
        if release := named or kept.current():
            return chosen, kept, release
        raise no_release(chosen)


def no_release(chosen: Settings) -> RecsysError:
    return RecsysError(f"{chosen.name} has no release yet; `make run DATASET={chosen.name}` makes one, or pass another DATASET=")


def read_config() -> dict[str, Any]:
    """config.toml, with the lines of cases.jsonl and expected.jsonl, which need not be there."""
    known = cases.parse(CASES.read_text()) if CASES.exists() else []
    changes = expected_changes.parse(EXPECTED.read_text()) if EXPECTED.exists() else []
    return parse((ROOT / "config.toml").read_text()) | {"cases": known, "expected": changes}


def point_metaflow() -> None:
    """Tells Metaflow the address of an S3-compatible store, for its own files too; it passes it on to containers."""
    if endpoint := read_config().get("store", {}).get("endpoint"):
        os.environ["METAFLOW_S3_ENDPOINT_URL"] = str(endpoint)


def note(root: str, branch: str) -> None:
    """Notes a shared store, so that the command's last line or its error names it."""
    if is_shared(root):
        opened[:] = [describe_store(root, branch)]


def user() -> str:
    """Who runs and deploys, as Metaflow names them."""
    return os.environ.get("METAFLOW_USER", "")
