"""The report: one page about a release, from what the store keeps and, as far as it is there, what its run left in Metaflow."""

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from metaflow.exception import MetaflowException

from recsys import RecsysError
from recsys.evaluation import Interval
from recsys.settings import Settings, build
from recsys.store import Manifest, Snapshot, Store
from recsys.validation_report import ValidationReport
from reporting import documents, figures, statements
from reporting.figures import Made
from reporting.proof import Sources
from reporting.score import items
from reporting.summary import maker

ROOT = Path(__file__).resolve().parents[2]
MOVES = 10  # of the pointer, the last, that are shown


def write(store: Store, release: str, present: Settings, project: Path, target: Path) -> None:
    """Writes the report on a release as one HTML file, and what it links to beside it."""
    snapshot = store.load("release", release)
    settings = settings_of(snapshot.manifest, present)
    target.parent.mkdir(parents=True, exist_ok=True)
    links = documents.build(store, snapshot.manifest, settings, project, target.parent)
    target.write_text(render(store, snapshot, settings, what_is_left(release), links), encoding="utf-8")


def settings_of(release: Manifest, present: Settings) -> Settings:
    """Those a release was made under; the present ones where the code has outgrown them."""
    try:
        return build(Settings, release.made_from["config"], "release")
    except (KeyError, RecsysError):
        return present


def what_is_left(release: str) -> Made | None:
    """Artifacts of the run that made a release; None if it is gone, or of code that kept other things."""
    try:
        if (run := maker(release)) is None:
            return None
        chosen = run["select"].task.data
        trained = [one for one in (task["trained"].data for task in run["train"]) if not one.skipped]
        return Made(run.pathspec, chosen.choice, chosen.oracle, trained)
    except (MetaflowException, AttributeError, ImportError, KeyError, TypeError):
        return None


def render(store: Store, release: Snapshot, settings: Settings, made: Made | None, links: Sequence[documents.Link] = ()) -> str:
    """The page as HTML. What is not at hand is left out and named."""
    manifest, report = release.manifest, ValidationReport.read(store.report(release.manifest.id))
    moves, own = store.history(), figures.holdout(release)
    state = statements.state_of(manifest.id, moves)
    known = store.find("features", manifest.parents["features"])
    return template().render(
        dataset=settings.name,
        release=manifest,
        state=state,
        as_of=next(iter(own.values())).cutoff + timedelta(days=settings.dataset.horizon_days),
        outcome=statements.outcome,
        alternatives=statements.alternatives,
        result=statements.result(report, state),
        made=made,
        missing=list(statements.missing(known, made, report, manifest)),
        checks=statements.checks(report),
        silent=statements.silent(report),
        metrics=list(figures.metrics(manifest.made_from["recommender"], own, made, settings)),
        slices=figures.slices(own[settings.list_kind], store.load("features", known.id).path, settings) if known else None,
        stability=figures.stability(made, settings) if made else None,
        drift=figures.drift([one for name in ("drift", "history") for one in report.checks.get(name, [])]) if report else None,
        score=[answer._asdict() for answer in items(Sources(ROOT, store, manifest.id))],
        lineage=statements.lineage(store, manifest),
        moves=[(move, store.find("release", move["release"])) for move in reversed(moves[-MOVES:])],
        links=links,
    )


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
