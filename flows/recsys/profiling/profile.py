"""Profiles an export for `make check-data`: its content, how it is read, proposed settings, and whether a run will work."""

import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from recsys import RecsysError
from recsys.features import DATE, rewrite_number, warehouse
from recsys.profiling.proposal import GRIDS, Horizon, measure_horizon, propose_min_rating, render, share_rated, write_count
from recsys.settings import (
    MAX_UNKNOWN_SHARE,
    Dataset,
    Settings,
    advise_exclude_seen,
    check_ratings,
    count_types,
    explain_types,
    parse,
    propose_types,
    read_types,
    repeat_share,
    resolve,
    write_text,
)
from recsys.sources import SOURCES, Access, Events, UnreadableColumns, check_inputs, columns, open_source
from recsys.store import Manifest, Snapshot, describe

SECTIONS = (
    "Columns", "Event types", "Ratings", "Quarantine", "Times", "Users and items", "Horizon", "Tables of items and users",
    "config.toml", "Will a run work?",
)  # fmt: skip
SHOWN = 20  # event types, ratings and time zones that are listed
EXAMPLES = 5  # rejected events shown for each reason
MAX_MISSING = 0.5  # share of rows without a value up to which a column is proposed
MAX_REJECTED = 0.5  # share of rejected events of a type above which a remark says so
SPIKE = 10  # ratio of a day's events to the median day's above which a remark says so
MIN_SPIKE = 100  # events of such a day
MAX_RATINGS = 1_000  # distinct values up to which a column counts as ratings
MAX_TYPES = 30  # distinct values up to which a column of texts may hold event types
MIN_TYPE_SHARE = 0.001  # share of the rows of an event type; rarer values may be typing errors
TYPE_ROWS = 10  # rows for each value of a column that may hold event types
TYPE_COLUMNS = 3  # columns shown that may hold event types
MAX_USER_SHARE = 0.05  # share of the events of one user above which a remark says so
MIN_USER_EVENTS = 100  # events of such a user
MIN_REPEAT_DAYS = 28  # days of data from which the share of repeats is a reason for exclude_seen
# Ids that exports write for an unknown user or item, in small letters.
NO_IDS = (
    "null", "none", "nan", "nil", "na", "n/a", "#n/a", "<na>", "undefined", "unknown", "missing", "guest", "anonymous", "anon",
    "-", "--", "?", "-1",
)  # fmt: skip
# Forms of times in text columns.
FORMS = {
    "text with a zone": r"^\d{4}[^:]*:.*\d ?(Z|UTC|GMT|[+-]\d\d(:?\d\d)?)$",
    "text without a zone": r"^\d{4}[-/]\d\d?[-/]\d\d?[ T]",
    "dates": r"^\d{4}[-/]\d\d?[-/]\d\d?$",
    "seconds since 1970": r"^\d{9,10}([.,]\d*)?$",
    "milliseconds since 1970": r"^\d{12,13}([.,]\d*)?$",
    "microseconds since 1970": r"^\d{15,16}$",
    "nanoseconds since 1970": r"^\d{18,19}$",
}
NUMBER = r"^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?$"  # the same as in the dbt macro `number`
NUMBER_TEXT = r"^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?$"  # what the staging models read as a price or quantity
ZONED, TYPED, TYPED_LOCAL = "text with a zone", "timestamps with a zone", "timestamps without a zone"
UNREADABLE = "not readable"  # any other form
LOCAL = ("text without a zone", "dates", TYPED_LOCAL)  # forms that need the dataset's time_zone


@dataclass(frozen=True)
class Column:
    """A column of the export. ours: our column that it is read as; "" if it is ignored. how: how it was found, or what to do."""

    table: str
    theirs: str
    ours: str
    how: str


class Rows(NamedTuple):
    """A table of texts. right: numbers of the columns that are aligned to the right."""

    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[int] = ()


@dataclass
class Profile:
    """The profile of an export.

    is_known: whether config.toml has a section for it, so that no settings are proposed. section: proposed section of config.toml.
    problems: reasons why a run will not work. remarks: other things to know before a run. parts: lines and tables of each of
    SECTIONS.
    """

    name: str
    is_known: bool
    columns: list[Column] = field(default_factory=list)
    section: str = ""
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    parts: dict[str, list[str | Rows]] = field(default_factory=lambda: {title: [] for title in SECTIONS})


def check(
    config: Mapping[str, Any], name: str, inputs: Mapping[str, str], project: Path, today: date, access: Access | None = None
) -> Profile:
    """Profiles an export. If config.toml has the section [datasets.<name>], its settings are checked; otherwise a section with that
    name is proposed.

    config: the parsed config.toml. inputs: source settings, such as the paths of the files. project: folder of the dbt project.
    access: only needed for a database. Raises RecsysError if the data cannot be read.
    """
    return _Check(config, name, inputs, project, today).run(access)


class _Check:
    """One run of `check`. values: settings of the dataset, as far as they are known. reasons: comments on proposed settings. spare:
    columns of each table that do not match one of ours. missing: required columns of each table that were not found. attributes:
    useful columns of items and users, by setting. forms: share of the events whose time has each form. days: number of days from
    the first event to the last."""

    def __init__(self, config: Mapping[str, Any], name: str, inputs: Mapping[str, str], project: Path, today: date):
        self.config, self.name, self.inputs, self.project, self.today = config, name, inputs, project, today
        known = config["datasets"].get(name)
        self.given = frozenset(known or ())
        self.found = Profile(name, known is not None)
        self.parts = self.found.parts
        self.values: dict[str, Any] = dict(known) if known else {"source": "events", **_grid(*GRIDS[0])}
        self.values["source_settings"] = self.values.get("source_settings", {}) | dict(inputs)
        self.reasons: dict[str, str] = {"horizon_days": "days that a list predicts", "step_days": "days between cutoffs"}
        self.spare: dict[str, list[str]] = {}
        self.missing: dict[str, list[str]] = {}
        self.unreadable: dict[tuple[str, str], str] = {}  # why a column of a table is not proposed, though it has a usual name
        self.is_sure = True
        self.attributes: dict[str, list[str]] = {}
        self.forms: dict[str, float] = {}
        self.days = 0
        self.horizons: list[Horizon] = []
        self.horizon: Horizon | None = None

    @property
    def settings(self) -> Settings:
        """Settings of a run on the export. Raises RecsysError if they are not valid."""
        return self.with_values({})

    def with_values(self, changes: Mapping[str, Any]) -> Settings:
        return resolve({**self.config, "datasets": {self.name: self.values | dict(changes)}}, self.name)

    def propose(self, key: str, value: Any, reason: str = "") -> None:
        """Proposes a setting. Does nothing if config.toml has a section for the export."""
        if not self.found.is_known:
            self.values[key], self.reasons[key] = value, reason

    def run(self, access: Access | None) -> Profile:
        check_inputs(self.settings.dataset.source, self.inputs, self.name)
        source = open_source(self.settings.dataset, self.settings.store.endpoint)
        self.source, self.target = self.settings.dataset.source, self.settings.dataset.target
        schemas = source.schemas() if isinstance(source, Events) else {}
        if isinstance(source, Events):
            self.find_columns(source, schemas)
            if not self.found.problems:
                self.find_type_columns(source)
        if not self.found.problems:
            with tempfile.TemporaryDirectory(prefix="check-data-") as scratch:
                raw = self.land(Path(scratch), access)
                self.find_sent(raw, Path(scratch) / "sent.duckdb", schemas)
                if not self.found.problems:
                    self.find_accepted(raw, Path(scratch) / "checked.duckdb", "items" in schemas)
                    self.judge()
        columns_read = [(one.table, one.theirs, one.ours or "-", one.how) for one in self.found.columns]
        fixed = f'source "{self.source}" has fixed columns; the settings of [datasets.{self.name}] are used'
        self.parts["Columns"].append(Rows(("table", "column", "is read as", ""), columns_read) if columns_read else fixed)
        if not self.found.is_known:
            self.found.section = self.render()
            self.parts["config.toml"] += ["# paste this into config.toml", self.found.section]
        self.parts["Will a run work?"] += [f"- {remark}" for remark in self.found.remarks]
        if not self.found.problems:
            but = ", but read the above" if self.found.remarks else ""
            self.parts["Will a run work?"].append(f"yes{but}: make run DATASET={self.name}")
        return self.found

    def find_columns(self, source: Events, schemas: Mapping[str, pa.Schema]) -> None:
        """Finds the columns of each table by the settings and our names, and proposes others by usual names and by their values."""
        usual = {} if self.found.is_known else {table: columns.propose(schema.names, table) for table, schema in schemas.items()}
        self.leave_out_unreadable(source, schemas, usual)
        self.match_columns(schemas, usual)
        if not self.missing:
            return
        try:
            guesses = _guess(source.read_heads(self.spare))
        except RecsysError:  # such as columns of lists; then only names are compared
            guesses = {}
        guessed = {table: {ours: guesses.get(f"{table}.{ours}", "") for ours in names} for table, names in self.missing.items()}
        if self.found.is_known or not all(
            all(found.values()) and len(set(found.values())) == len(found) for found in guessed.values()
        ):
            self.ask_for_columns(guesses)
            return
        self.match_columns(schemas, {table: usual[table] | guessed.get(table, {}) for table in usual}, guessed)
        shown = ", ".join(f'"{theirs}" as {ours}' for found in guessed.values() for ours, theirs in found.items())
        self.found.remarks.append(f"these columns were guessed from their values: {shown}; correct columns if a guess is wrong")

    def find_type_columns(self, source: Events) -> None:
        """Adds a remark on columns that may hold event types if no column is event_type, so that every row is a target event."""
        spare = [name for name in self.spare["events"] if ("events", name) not in self.unreadable]
        given = self.settings.dataset.columns
        is_read = any((one.table, one.ours) == ("events", "event_type") for one in self.found.columns)
        if not spare or is_read or "" in (given.get("event_type"), given.get("events.event_type")):
            return
        try:
            head = source.read_heads({"events": spare})["events"]
        except RecsysError:  # such as columns of lists
            return
        found = {name: shares for name in head.schema.names if (shares := _type_shares(head.column(name)))}
        usual = {name: shares for name, shares in found.items() if propose_types(dict.fromkeys(map(str.lower, shares), 1)).is_sure}
        for name, shares in list((usual or found).items())[:TYPE_COLUMNS]:
            shown = ", ".join(f"{write_text(value)} {share:.1%}" for value, share in shares.items())
            line = columns.line(dict(given) | {"event_type": name})
            self.found.remarks.append(
                f"no column is event_type, so every row counts as a target event, views and returns too; {write_text(name)} may"
                f" hold event types: {shown}; if it does, write {line} under [datasets.{self.name}], and check again; if none does,"
                ' write event_type = "" in columns'
            )

    def leave_out_unreadable(self, source: Events, schemas: Mapping[str, pa.Schema], usual: dict[str, dict[str, str]]) -> None:
        """Takes columns out of `usual` that should hold numbers and hold other texts: each of their events would be rejected. Those
        of our own name, which are read without a setting, become ""."""
        given = self.settings.dataset.columns
        read = {table: columns.match(schema.names, table, given).mapped | usual.get(table, {}) for table, schema in schemas.items()}
        wanted = {
            table: [
                theirs
                for ours, theirs in found.items()
                if columns.TABLES[table][ours] == "number" and pa.types.is_string(schemas[table].field(theirs).type)
            ]
            for table, found in read.items()
        }
        for table, head in source.read_heads({table: names for table, names in wanted.items() if names}).items():
            for ours, theirs in read[table].items():
                if theirs not in wanted[table] or not (example := _unreadable(head.column(theirs))):
                    continue
                written, key = rewrite_number(example) or "1234.50", _blank_key(table, ours)
                blank = f'{write_text(key) if "." in key else key} = ""'
                if self.found.is_known:
                    self.found.remarks.append(
                        f'"{theirs}" of {table.upper()} is not read as a number: it is written like {example}; write {written}, or'
                        f" leave the column out with {blank} in columns"
                    )
                    continue
                if ours in usual[table]:
                    del usual[table][ours]
                    then = f"add {ours} = {write_text(theirs)} to columns"
                else:
                    usual[table][ours] = ""
                    then = f"remove {blank} from columns"
                self.unreadable[table, theirs] = f"left out: {example} is not read as a number"
                self.found.remarks.append(
                    f'"{theirs}" of {table.upper()} is left out: it seems to be {ours}, but it is written like {example};'
                    f" write {written}, and {then}"
                )

    def match_columns(
        self,
        schemas: Mapping[str, pa.Schema],
        proposed: Mapping[str, Mapping[str, str]],
        guessed: Mapping[str, Mapping[str, str]] = {},
    ) -> None:
        """Matches the columns of each table to ours. proposed: the export's columns by table and our name; guessed: those of them
        that were found by their values."""
        if any(proposed.values()):
            self.propose("columns", _merge(proposed), "our name = the data's; check them")
        dataset, self.found.columns, self.missing = self.settings.dataset, [], {}
        for table, schema in schemas.items():
            match = columns.match(schema.names, table, dataset.columns, columns.attributes_of(table, dataset))
            ours = {theirs: name for name, theirs in match.mapped.items()}
            hints = _hints(table, match.ignored, "items" in schemas)
            for theirs in schema.names:
                name = ours.get(theirs, "")
                if not name and pa.types.is_nested(schema.field(theirs).type):
                    hints[theirs] = f"ignored: it is of type {schema.field(theirs).type}"
                is_guess, is_proposed = (name in found.get(table, {}) for found in (guessed, proposed))
                how = (
                    self.unreadable.get((table, theirs), hints[theirs]) if not name
                    else "guessed: the only column of times" if is_guess and name == "event_at"
                    else "guessed: another table has its values" if is_guess
                    else "proposed: a usual name for it" if is_proposed
                    else "the same name" if columns.is_same(name, theirs)
                    else "by the settings"
                )  # fmt: skip
                self.found.columns.append(Column(table, theirs, name, how))
            self.spare[table] = [name for name in match.ignored if not pa.types.is_nested(schema.field(name).type)]
            if match.missing:
                self.missing[table] = match.missing

    def ask_for_columns(self, guesses: Mapping[str, str]) -> None:
        """Adds a problem that names the missing required columns, with the line to write in config.toml. guesses: the export's
        columns by `<table>.<our name>`."""
        given, parts = self.settings.dataset.columns, []
        setting = dict(given)
        for table, names in self.missing.items():
            parts.append(f"{table.upper()} has no column that is known to be {', '.join(names)}")
            parts[-1] += columns.explain_misnamed(given, table, names, self.spare[table])
            for ours in names:
                key = f"{table}.{ours}"
                named = given.get(key, given.get(ours, ""))
                meant = columns.closest(named, self.spare[table]) if named else guesses.get(key, "")
                if table == "events" or not meant or setting.get(ours) != meant:
                    setting[ours if table == "events" else key] = meant or columns.BLANK
        if any(theirs == columns.BLANK for theirs in setting.values()):
            self.reasons["columns"] = f"our name = the data's; check them, and write columns instead of {columns.BLANK}"
        if not self.found.is_known:
            self.propose("columns", setting, self.reasons.get("columns", "our name = the data's; check them"))
        self.found.problems.append(
            f"{'; '.join(parts)}; write under [datasets.{self.name}] in config.toml which ones they are:"
            f" {columns.line(setting)}; then make check-data DATASET={self.name} checks the section again"
        )

    def land(self, scratch: Path, access: Access | None) -> Snapshot:
        """Lands a raw snapshot outside the store. Spare columns of items and users become attributes if they can be read."""
        dataset = self.settings.dataset
        if self.found.is_known:
            return self.land_as(dataset, scratch, access)
        spare = {table: list(self.spare.get(table, [])) for table in ("items", "users")}
        while True:
            listed = replace(dataset, item_attributes=spare["items"], user_attributes=spare["users"])
            try:
                return self.land_as(listed, scratch, access)
            except UnreadableColumns as error:
                table = next((one for one in spare if error.where.startswith(one.upper())), "")
                if not set(error.problems) & set(spare.get(table, [])):
                    raise
                spare[table] = [name for name in spare[table] if name not in error.problems]
                self.found.columns = [
                    replace(one, how=f"ignored: it {error.problems[one.theirs]}")
                    if one.table == table and one.theirs in error.problems
                    else one
                    for one in self.found.columns
                ]

    def land_as(self, dataset: Dataset, scratch: Path, access: Access | None) -> Snapshot:
        source = open_source(dataset, self.settings.store.endpoint)
        if access:
            source.prepare(access)
        folder = Path(tempfile.mkdtemp(prefix="raw-", dir=scratch))
        self.found.remarks += [result.message for result in source.land(folder) if not result.passed]
        made_from = {"source": dataset.source, "landed_on": self.today.isoformat()}
        return Snapshot(folder, Manifest("raw", "", {}, made_from, describe(folder)))

    def find_sent(self, raw: Snapshot, file: Path, schemas: Mapping[str, pa.Schema]) -> None:
        """Profiles the raw tables: event types, ratings, forms of times, items and users."""
        warehouse.expose(raw, file)
        with warehouse.connect(file, self.settings) as connection:
            first = next(iter(SOURCES[self.source].max_null_share))
            self.sent: int = _one(connection, f"select count(*) from raw.{first}")
            if self.source in ("events", "database"):
                self.find_types(connection)
                self.find_ratings(connection)
            if schemas:
                self.find_forms(connection, schemas["events"])
                for table in ("items", "users"):
                    if table in schemas:
                        self.find_attributes(connection, table)

    def find_attributes(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        """Profiles the table of items or users. Every column that is not one of ours is an attribute. It is proposed if it has
        several values, few are missing, and those of a text are shared by rows."""
        entity = table.removesuffix("s")
        total, distinct, dated = connection.execute(
            f"select count(*), count(distinct ({entity}_id, valid_from)), count(valid_from) from raw.{table}"
        ).fetchall()[0]
        known = f"select {entity}_id::varchar from raw.{table}"
        covered = _one(connection, f"select coalesce(avg(({entity}_id::varchar in ({known}))::int), 0) from raw.events")
        if covered < MAX_MISSING:
            self.found.remarks.append(
                f"only {covered:.1%} of the events have a row in {table.upper()}; are the ids written the same way?"
            )
        names = [name for name, *_ in connection.execute(f"describe select * from raw.{table}").fetchall()]
        names = [name for name in names if name not in columns.TABLES[table]]
        codes = replace(self.settings.dataset, item_attributes=names, user_attributes=[]).text_only  # even if all are numbers
        rows, useful = [], []
        for name in names:
            value = f"nullif(trim({warehouse.identifier(name)}::varchar), '')"
            values, present, numbers = connection.execute(
                f"select count(distinct {value}), count({value}), count_if(regexp_matches({value}, '{NUMBER}')) from raw.{table}"
            ).fetchall()[0]
            is_number, missing = present and numbers == present and name not in codes, 1 - present / max(total, 1)
            rows.append((name, "number" if is_number else "text", f"{values:,}", f"{missing:.1%}"))
            if values > 1 and missing <= MAX_MISSING and (is_number or values <= total / 2):
                useful.append(name)
        self.parts["Tables of items and users"] += [
            f"{table}: {total:,} rows, {total - distinct:,} of them duplicates; {covered:.1%} of the events have a row",
            "dated by valid_from" if dated else "undated: every cutoff sees the values of today",
        ]
        if rows:
            titles = ("attribute", "type", "values", "missing")
            self.parts["Tables of items and users"].append(Rows(titles, rows, right=(2, 3)))
        if useful:
            self.attributes[f"{entity}_attributes"] = useful
            caution = "" if dated else "; leave out what was not known at the time"
            self.reasons[f"{entity}_attributes"] = f"to use them, remove the #{caution}"

    def find_types(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Proposes the target and `event_types`, or checks those of the section."""
        counts = count_types(connection, "raw.events")
        if self.found.is_known:
            types = read_types(counts, self.settings.dataset)
        else:
            types = propose_types(counts, any(column.ours == "rating" for column in self.found.columns))
            self.propose("target", types.target, types.reason if types.target != "purchase" else "")
            self.propose("event_types", types.event_types)
            self.reasons |= {f"event_types.{own}": "decide how to count it" for own in types.undecided}
        self.target, self.is_sure = types.target, types.is_sure
        if counts:
            rows = [
                (own or "(none)", f"{events:,}", f"{events / max(self.sent, 1):.2%}", types.meanings[own] or "undecided")
                for own, events in list(counts.items())[:SHOWN]
            ]
            self.parts["Event types"].append(Rows(("type", "events", "share", "counts as"), rows, right=(1, 2)))
            if len(counts) > SHOWN:
                self.parts["Event types"].append(f"and {len(counts) - SHOWN:,} more types; is this column an event type?")
            why = "by default" if self.found.is_known and "target" not in self.given else types.reason
            self.parts["Event types"].append(f"target: {types.target or 'undecided'} ({why})")
        if self.found.is_known:
            if problem := explain_types(counts, self.settings.dataset, f"datasets.{self.name}"):
                self.found.problems.append(problem)
        elif sum(counts[own] for own in types.undecided) > MAX_UNKNOWN_SHARE * sum(counts.values()):
            self.found.remarks.append(
                f"these event types are not known: {', '.join(types.undecided[:12])}; they are ignored until you decide:"
                f" write view, cart, return, ignore or {types.target} for each"
            )

    def find_ratings(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Counts ratings, and proposes the smallest rating of a target event."""
        try:
            check_ratings(connection, "raw.events", self.settings.dataset)
        except RecsysError as error:
            self.found.problems.append(str(error))
            return
        rows = connection.execute(
            f"""select try_cast(rating as double) as value, count(*) as events from raw.events
                where isfinite(value) group by all order by value limit {MAX_RATINGS + 1}"""
        ).fetchall()
        counts = dict(rows)
        if not 1 < len(counts) <= MAX_RATINGS:
            return
        share, least = sum(counts.values()) / max(self.sent, 1), self.settings.dataset.min_rating
        if not self.found.is_known and share > 1 - MAX_MISSING and self.target != "view":
            least = propose_min_rating(counts)
            unrated = f", and so do the {1 - share:.1%} of the events without a rating" if share < 1 else ""
            self.propose("min_rating", least, f"lower ratings count as views{unrated}")
        total = max(sum(counts.values()), 1)
        shares = ", ".join(f"{rating:g}: {events / total:.1%}" for rating, events in list(counts.items())[:SHOWN])
        self.parts["Ratings"].append(f"{share:.1%} of the events have a rating; {shares}")
        if least is not None:
            reached = f"{share_rated(counts, least):.1%} of the rated events reach it, the others are views"
            self.parts["Ratings"].append(f"min_rating = {least:g}: {reached}")
            if share < 1:
                self.parts["Ratings"].append(f"events without a rating, {1 - share:.1%} of all, are views too")

    def find_forms(self, connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> None:
        """Finds the forms of times, and proposes a zone if some have none."""
        name = next(column.theirs for column in self.found.columns if column.table == "events" and column.ours == "event_at")
        kind, zones = schema.field(name).type, []
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            forms = {TYPED if getattr(kind, "tz", None) else TYPED_LOCAL: 1.0}
        else:
            cases = " ".join(f"when regexp_matches(written, '{pattern}') then '{form}'" for form, pattern in FORMS.items())
            rows = connection.execute(
                f"""select case when written is null then 'missing' {cases} else '{UNREADABLE}' end as form,
                        case when form = '{ZONED}' then regexp_extract(written, '(Z|UTC|GMT|[+-][0-9:]+)$') end as zone, count(*)
                    from (select upper(trim(event_at::varchar)) as written from raw.events) group by all order by 3 desc, 1, 2"""
            ).fetchall()
            total = max(sum(events for *_, events in rows), 1)
            forms = {form: sum(events for one, _, events in rows if one == form) / total for form, *_ in rows}
            zones = [zone for _, zone, _ in rows if zone]
        self.forms = forms
        shares = ", ".join(f"{form} {share:.1%}" for form, share in forms.items())
        self.parts["Times"].append(f"forms: {shares}" + (f"; zones {', '.join(zones[:SHOWN])}" if zones else ""))
        if not set(LOCAL).isdisjoint(forms):
            self.propose("time_zone", "UTC", 'times have no zone; correct it if it is another one, such as "Europe/London"')

    def find_accepted(self, raw: Snapshot, file: Path, catalogued: bool) -> None:
        """Runs the dbt models up to the quarantine, and profiles rejected and accepted events."""
        warehouse.check_events(raw, self.settings, self.project, file)
        with warehouse.connect(file, self.settings) as connection:
            self.find_rejected(connection)
            self.find_unknown_ids(connection)
            if not _one(connection, "select count(*) from int_events_accepted where is_target"):
                if self.found.problems:
                    return  # the reason is among them
                self.found.problems.append(f'no accepted event is of the target "{self.target}"')
                return
            self.find_times(connection)
            self.find_counts(connection)
            self.find_horizon(connection, catalogued)

    def find_rejected(self, connection: duckdb.DuckDBPyConnection) -> None:
        found = warehouse.quarantine(connection)
        self.parts["Quarantine"].append(str(found))
        rows = connection.execute(
            f"""select reason, * exclude (reason, session_id, event_id) from int_events_rejected
                qualify row_number() over (partition by reason order by event_at, user_id, item_id) <= {EXAMPLES}
                order by all"""
        )
        names = [name for name, *_ in rows.description or []]
        for reason, group in groupby(rows.fetchall(), key=itemgetter(0)):
            examples = list(group)
            self.parts["Quarantine"].append(f"{reason}, {len(examples)} of {found.rejected[reason]:,}:")
            shown = [at for at in range(1, len(names)) if any(row[at] not in (None, "") for row in examples)]
            self.parts["Quarantine"].append(
                Rows([names[at] for at in shown], [[_text(row[at]) for at in shown] for row in examples])
            )
        by_type = connection.execute(
            f"""select event_type, count(*) as events, count_if(reasons <> '') as rejected,
                    (select mode(reason) from int_events_rejected as bad where bad.event_type = checked.event_type)
                from int_events_checked as checked group by event_type
                having rejected > {MAX_REJECTED} * events order by events desc, event_type limit {EXAMPLES}"""
        ).fetchall()
        self.found.remarks += [
            f"{rejected:,} of {events:,} {own} events are rejected ({reason})" for own, events, rejected, reason in by_type
        ]
        if excess := found.excess(self.settings.dataset.max_quarantine):
            self.found.problems.append(f"quarantine would hold {excess}")

    def find_unknown_ids(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Adds remarks on ids that seem to stand for unknown users or items, and on users with a large share of the events."""
        for name, no_ids in (("user", [*NO_IDS, "0"]), ("item", NO_IDS)):  # catalogues often number items from 0
            counts = connection.execute(
                f"""select {name}_id, count(*) as events, events / (select count(*) from int_events_checked) as share
                    from int_events_checked where trim({name}_id) <> '' group by all
                    having list_contains(?, lower(trim({name}_id)))
                        or '{name}' = 'user' and share > {MAX_USER_SHARE} and events >= {MIN_USER_EVENTS}
                    order by events desc, {name}_id limit {EXAMPLES}""",
                [list(no_ids)],
            ).fetchall()
            self.found.remarks += [
                f"the {name}_id {write_text(id)} of {write_count(events, 'event')} ({share:.1%}) counts as one {name}; if it stands"
                f" for unknown {name}s, write an empty cell instead in the export, so that these events are rejected as no_{name}"
                for id, events, share in counts
            ]

    def find_counts(self, connection: duckdb.DuckDBPyConnection) -> None:
        events, targets = connection.execute(
            "select count(*), count(*) filter (where is_target) from int_events_accepted"
        ).fetchall()[0]
        lines = [f"{events:,} accepted events, {targets:,} of the target ({self.target})"]
        for name, article in (("user", "a"), ("item", "an")):
            middle, p90, most, number = connection.execute(
                f"""select quantile_disc(events, 0.5), quantile_disc(events, 0.9), max(events), count(*)
                    from (select count(*) as events from int_events_accepted group by {name}_id)"""
            ).fetchall()[0]
            spread = f"median {middle:,}, 90% have up to {p90:,}, at most {most:,}"
            lines.append(f"{number:,} {name}s; events of {article} {name}: {spread}")
            if number == 1:
                self.found.problems.append(f"all events have the same {name}")
        repeats = repeat_share(connection, "(from int_events_accepted where is_target)")
        lines.append(f"{repeats:.1%} of the {self.target} events are on an item that the user had one with on an earlier day")
        self.parts["Users and items"] += lines
        advised = advise_exclude_seen(repeats, **self.settings.checks["seen"])
        if self.days < MIN_REPEAT_DAYS:
            if not self.found.is_known:
                self.found.remarks.append(
                    f"exclude_seen is not proposed: the share of repeats needs at least {MIN_REPEAT_DAYS} days of data"
                )
            return
        if advised:
            self.propose("exclude_seen", True, f"{repeats:.1%} of the {self.target} events repeat an item")
        if self.found.is_known and advised not in (None, self.settings.dataset.exclude_seen):
            self.found.remarks.append(
                f"exclude_seen is {str(not advised).lower()}, though {repeats:.1%} of the {self.target} events repeat an item"
            )

    def find_times(self, connection: duckdb.DuckDBPyConnection) -> None:
        by_day = connection.execute(
            "select event_at::date as day, count(*) from int_events_accepted group by all order by day"
        ).fetchall()
        zone = self.settings.dataset.time_zone
        by_hour = dict(
            connection.execute(
                "select hour(event_at at time zone 'UTC' at time zone ?), count(*) from int_events_accepted group by all", [zone]
            ).fetchall()
        )
        first, last = connection.execute("select min(event_at), max(event_at) from int_events_accepted").fetchall()[0]
        days = [day for day, _ in by_day]
        gaps = [(one + timedelta(1), (other - one).days - 1) for one, other in pairwise(days) if (other - one).days > 1]
        gaps.sort(key=lambda gap: (-gap[1], gap[0]))
        usual = median(events for _, events in by_day)
        spikes = sorted(((events, day) for day, events in by_day if events > max(SPIKE * usual, MIN_SPIKE)), reverse=True)
        self.found.remarks += [
            f"{day} has {events:,} events, {events / usual:.0f} times the usual day: an import?"
            for events, day in spikes[:EXAMPLES]
        ]
        hours = {start: sum(by_hour.get((start + hour) % 24, 0) for hour in range(6)) for start in range(24)}
        self.as_of: date = _one(connection, "select max(as_of)::date from int_cutoffs")
        self.days = (self.as_of - days[0]).days
        missing = sum(length for _, length in gaps)
        longest = ", ".join(f"{length} from {start}" for start, length in gaps[:5])
        self.parts["Times"] += [
            f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, {write_count(self.days, 'day')}",
            f"days without an event: {missing:,}" + (f"; the longest runs: {longest}" if missing else ""),
        ]
        if without := sum(share for form, share in self.forms.items() if form in LOCAL):
            share = "no time has one" if without == 1 else f"{without:.1%} of the times have none"
            origin = "by the settings" if "time_zone" in self.given else "by default"
            self.parts["Times"].append(f'zone: {share}, so time_zone = "{zone}" is used, {origin}')
            if len(by_hour) > 1:  # otherwise all are within one hour of the day, as those of dates are
                quiet = min(hours, key=hours.__getitem__)
                guess = "no night there, so most users may live in another zone"
                if quiet < 4 or quiet > 20:
                    guess = "a night there; if most users live in another zone, their own clock was written: set time_zone to it"
                until = f"{(quiet + 6) % 24:02}:00 in {zone}"
                self.parts["Times"].append(f"the quietest six hours are {quiet:02}:00 to {until}, {guess}")

    def find_horizon(self, connection: duckdb.DuckDBPyConnection, catalogued: bool) -> None:
        """Counts the users on whom lists can be evaluated, at each evaluated cutoff of each horizon, and proposes a horizon."""
        known = "item_id in (select item_id from raw.items)" if catalogued else "false"
        connection.execute(
            f"""create temp table outcomes as
                select user_id, first_value(day) over pair as pair_day, day, user_day, item_day, {known} as is_catalogued
                from (select distinct user_id, item_id, event_at::date as day from int_events_accepted where is_target)
                join (select user_id, min(event_at)::date as user_day from int_events_accepted group by all) using (user_id)
                join (select item_id, min(event_at)::date as item_day from int_events_accepted group by all) using (item_id)
                window pair as (partition by user_id, item_id order by day)"""
        )
        proposed = [self.measure(connection, self.with_values(_grid(*grid))) for grid in GRIDS]
        usable = [one for one in proposed if one.fits] or [one for one in proposed if one.users[0]]
        self.horizons, self.horizon = proposed, usable[0] if usable else None
        if self.found.is_known:
            own = self.measure(connection, self.settings)
            self.horizons, self.horizon = [own] if own.fits else [own, *proposed], own if own.users[0] else None
            best = usable[0] if usable else own
            if not own.fits and best.horizon_days < own.horizon_days:
                self.found.remarks.append(
                    f"horizon_days = {own.horizon_days} is too long for {write_count(self.days, 'day')} of data; write"
                    f" horizon_days = {best.horizon_days} and step_days = {best.step_days} under [datasets.{self.name}]"
                )
        elif usable:
            self.values |= _grid(usable[0].horizon_days, usable[0].step_days)
        names = ("horizon / step, days", "days needed for all windows", "training windows in the data")
        rows = [
            (
                f"{one.horizon_days} / {one.step_days}",
                f"{one.needed_days}",
                str(one.windows),
                f"{one.users[0]:,}",
                ", ".join(f"{users:,}" for users in one.users[1:]),
                "used" if one is self.horizon else "",
            )
            for one in self.horizons
        ]
        self.parts["Horizon"].append(Rows((*names, "users judged in the holdout", "in the windows of selection", ""), rows))

    def measure(self, connection: duckdb.DuckDBPyConnection, settings: Settings) -> Horizon:
        days = settings.dataset.horizon_days
        new = " and pair_day >= cutoff" if settings.dataset.exclude_seen else ""
        users = [
            _one(
                connection,
                f"""select count(distinct user_id) from outcomes, (select date '{self.as_of}' - {before} as cutoff)
                    where day >= cutoff and day < cutoff + {days} and user_day < cutoff
                    and (is_catalogued or item_day < cutoff){new}""",
            )
            for before in settings.evaluated_days
        ]
        return measure_horizon(settings, self.days, users)

    def judge(self) -> None:
        """Adds problems and remarks on the numbers of events, users and days."""
        found, settings, horizon = self.found, self.settings, self.horizon
        if not self.is_sure:
            found.problems.append(f"no event type has a usual name; set the target, which is {self.target} in the section above")
        if self.sent < (least := settings.checks["raw"]["min_events"]):
            found.problems.append(
                f"the data have {write_count(self.sent, 'event')}, and a run needs {least:,} (checks.raw.min_events)"
            )
        if not self.horizons:  # no accepted event is of the target
            return
        if horizon is None:
            shortest = self.horizons[0 if found.is_known else -1].horizon_days
            days = write_count(self.days, "day")
            least_days = {one.horizon_days: one.least_days for one in self.horizons}
            needed = ", ".join(f"{least_days[one]} for a horizon of {write_count(one, 'day')}" for one in sorted(least_days))
            found.problems.append(
                f"lists cannot be evaluated: the data have {days}, and no user has a {self.target} in the"
                f" last {write_count(shortest, 'day')} and an event before; days needed at least: {needed}"
            )
            return
        least = settings.checks["baseline"]["min_users"]
        if horizon.users[0] < least:
            found.remarks.append(
                f"only {horizon.users[0]:,} users return with a {self.target} in the last {horizon.horizon_days} days; with fewer"
                f" than {least}, no difference between recommenders is significant"
            )
        if not all(horizon.users):
            found.remarks.append(
                f"{sum(map(bool, horizon.users[1:]))} of the {len(horizon.users) - 1} selection windows have users to evaluate"
            )
        if horizon.windows < settings.features.training_windows:
            found.remarks.append(
                f"{horizon.windows} of the {settings.features.training_windows} training windows are in the data, which have"
                f" {write_count(self.days, 'day')} instead of {horizon.needed_days}"
            )

    def render(self) -> str:
        """Returns the proposed section of config.toml, after a test that it is valid."""
        reasons = dict(self.reasons)
        values, grid = dict(self.values), {}
        if self.horizons and not self.horizon:  # lists cannot be evaluated, so no horizon is proposed
            grid = {key: values.pop(key) for key in _grid(*GRIDS[0])}
            reasons["horizon_days"] += f"; this one needs at least {write_count(self.horizons[0].least_days, 'day')} of data"
        section = render(self.name, values, reasons, grid | self.attributes)
        resolve({**self.config, "datasets": {self.name: parse(section)["datasets"][self.name] | grid}}, self.name)
        return section


def _guess(heads: Mapping[str, pa.RecordBatch]) -> dict[str, str]:
    """Guesses required columns by table and our name: event_at if one column has times, and ids by which tables join."""
    guesses = {}
    times = [name for name in heads["events"].schema.names if _holds_times(heads["events"].column(name))]
    if len(times) == 1:
        guesses["events.event_at"] = times[0]
    for table, ours in (("items", "item_id"), ("users", "user_id")):
        for name in heads[table].schema.names if table in heads else ():
            shared = [theirs for theirs in heads["events"].schema.names if columns.is_same(theirs, name)]
            if shared and len(heads[table].column(name).unique()) == heads[table].num_rows:
                guesses |= {f"events.{ours}": shared[0], f"{table}.{ours}": name}
                break
    return guesses


def _holds_times(column: pa.Array) -> bool:
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return True
    values = column.slice(0, 1_000).drop_null().to_pylist() if pa.types.is_string(column.type) else []
    written = [pattern for form, pattern in FORMS.items() if form in (ZONED, *LOCAL)] + [DATE.pattern]
    return bool(values) and all(any(re.search(pattern, value.strip().upper()) for pattern in written) for value in values)


def _type_shares(column: pa.Array) -> dict[str, float]:
    """Returns the share of each value of a column that may hold event types, the most frequent first; empty for other columns."""
    if not pa.types.is_string(column.type) or _holds_times(column):
        return {}
    counts = Counter(value for text in column.drop_null().to_pylist() if (value := text.strip()))
    frequent = {value: count / len(column) for value, count in counts.most_common() if count >= MIN_TYPE_SHARE * len(column)}
    is_few = 2 <= len(frequent) <= min(MAX_TYPES, len(column) / TYPE_ROWS)
    is_named = all(re.match(r"[^\W\d_]", value) for value in frequent)  # codes and amounts start with a digit
    return frequent if is_few and is_named and sum(frequent.values()) > 1 - MAX_MISSING else {}


def _unreadable(column: pa.Array) -> str:
    """Returns an example of a column's texts that are not read as numbers, if most of them are not; else ""."""
    written = [value for text in column.slice(0, 1_000).drop_null().to_pylist() if (value := text.strip())]
    wrong = [value for value in written if not re.search(NUMBER_TEXT, value)]
    return wrong[0][:40] if len(wrong) > MAX_REJECTED * len(written) else ""


def _merge(proposed: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The setting `columns` of all tables. A key names its table if another table uses another name for the column."""
    setting: dict[str, str] = {}
    for table, found in proposed.items():
        for ours, theirs in found.items():
            is_shared = table != "events" and ours in columns.TABLES["events"] and setting.get(ours) != theirs
            setting[f"{table}.{ours}" if is_shared else ours if theirs else _blank_key(table, ours)] = theirs
    return setting


def _blank_key(table: str, ours: str) -> str:
    """Key of the setting `columns` for a column that is not read. It names the table if another table may have the column."""
    return f"{table}.{ours}" if sum(ours in known for known in columns.TABLES.values()) > 1 else ours


def _hints(table: str, ignored: Sequence[str], has_items: bool) -> dict[str, str]:
    """Says for each ignored column what it can be used for."""
    if table != "events":
        return dict.fromkeys(ignored, f"ignored; can be one of {table[:-1]}_attributes")
    usual = columns.match(ignored, "items").mapped | columns.propose(ignored, "items")
    hints = dict.fromkeys(ignored, "ignored")
    if not has_items:
        hints |= {theirs: f"ignored; to use it as {ours} of items, pass the file as ITEMS too" for ours, theirs in usual.items()}
    return hints


def _grid(horizon_days: int, step_days: int) -> dict[str, int]:
    return {"horizon_days": horizon_days, "step_days": step_days}


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    return connection.execute(query).fetchall()[0][0]


def _text(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else "" if value is None else str(value)
