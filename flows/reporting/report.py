"""The report: one page about a release, from what the store keeps."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from recsys import RecsysError
from recsys.evaluation import Interval, diff
from recsys.publishing import listed
from recsys.releases import as_of
from recsys.settings import Settings, build
from recsys.store import Manifest, Snapshot, Store
from recsys.validation_report import ValidationReport
from reporting import documents, figures, metrics, statements
from reporting.proof import Sources
from reporting.score import items

ROOT = Path(__file__).resolve().parents[2]
MOST = 10  # releases of the history


def write(store: Store, release: str, present: Settings, project: Path, target: Path) -> None:
    """Writes the report on a release as one HTML file, and what it links to beside it."""
    snapshot = store.load("release", release)
    settings = settings_of(snapshot.manifest, present)
    target.parent.mkdir(parents=True, exist_ok=True)
    links = documents.build(store, snapshot.manifest, settings, project, target.parent)
    target.write_text(render(store, snapshot, settings, links), encoding="utf-8")


def settings_of(release: Manifest, present: Settings) -> Settings:
    """Those a release was made under; the present ones where the code has outgrown them."""
    try:
        return build(Settings, release.made_from["config"], "release")
    except (KeyError, RecsysError):
        return present


def render(store: Store, release: Snapshot, settings: Settings, links: Sequence[documents.Link] = ()) -> str:
    """The page as HTML. What is not at hand is left out and named."""
    manifest, report = release.manifest, ValidationReport.read(store.report(release.manifest.id))
    state, last = statements.state_of(store, manifest.id), statements.last_release(store, manifest.id)
    winner = manifest.made_from["recommender"]
    rows = metrics.rows(report, winner, settings) if report else []
    changed, missing = _changes(store, last, manifest.id, settings)
    releases = listed(store, settings)[:MOST]
    return template().render(
        dataset=settings.name,
        release=manifest,
        state=state,
        as_of=as_of(release),
        outcome=statements.outcome,
        alternatives=statements.alternatives,
        metrics=metrics,
        result=statements.result(report, state),
        answer=metrics.answer(report, winner, settings) if report else "",
        headline=metrics.headline(report, winner, settings) if report else [],
        served=settings.list_kind,
        report=report,
        last=last,
        missing=[*statements.missing(report), *missing],
        refused=statements.refused(report),
        recommenders=list(figures.recommenders(rows, winner, settings)),
        whom=figures.for_whom(rows),
        groups=list(figures.groups(rows)),
        changed=changed,
        limiting=metrics.limiting(report, settings) if report else [],
        limits=list(figures.limits(report.limits, settings)) if report else [],
        drift=figures.drift([one for name in ("drift", "history") for one in report.checks.get(name, [])]) if report else None,
        history=figures.history(releases[::-1], settings),
        releases=releases,
        failed=statements.by_check(report, False),
        passed=statements.by_check(report, True),
        silent=statements.silent(report),
        score=[answer._asdict() for answer in items(Sources(ROOT, store, manifest.id))],
        lineage=statements.lineage(store, manifest),
        links=links,
    )


def _changes(store: Store, last: str | None, release: str, settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """What `make diff` tells of the last release and this one, but for metrics; and why it does not."""
    try:
        found = diff(store, last, release, settings) if last else {}
    except RecsysError as error:
        return {}, [f"what changed since the last release is left out: {error}"]
    return {name: [row for row in rows if row[-1] != "same"] for name, rows in found.items() if name != "metrics"}, []


def template() -> Any:
    """The page's template; whatever is put into it is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"words": words, "name": name, "number": number}
    environment.tests |= {"interval": lambda value: isinstance(value, Interval), "finite": math.isfinite}
    return environment.get_template("report.html")


def words(text: str) -> Markup:
    """Text in which what stands between backticks is code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def name(text: str) -> Markup:
    """A name as code that may break after its underscores."""
    return Markup("<code>{}</code>").format(escape(text).replace("_", Markup("_<wbr>")))


def number(value: Any) -> str:
    """`12,345`, `0.3981`, or the text itself."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
