"""The pages that the report links to: Great Expectations' Data Docs of the checks of tables, dbt's documentation, the card."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from recsys import RecsysError, releases, validation
from recsys.features import Features, warehouse
from recsys.recommenders import LIST_KINDS
from recsys.releases import BusinessRules
from recsys.settings import Settings
from recsys.sources import open_source
from recsys.store import Manifest, Store
from recsys.validation import expectations


@dataclass(frozen=True)
class Link:
    """An address relative to the report, what is there, and pages below it by name; `missing` says why it is not."""

    address: str
    name: str
    about: str
    missing: str = ""
    pages: dict[str, str] = field(default_factory=dict)


def build(store: Store, release: Manifest, settings: Settings, project: Path, folder: Path) -> list[Link]:
    """Makes the documents of a release anew below a folder, and says where they are."""
    shutil.rmtree(folder / "docs", ignore_errors=True)
    border = _link(
        partial(_border, store, release, settings, folder / "docs" / "expectations"),
        "docs/expectations/index.html",
        "Great Expectations Data Docs",
        "The checks of raw data and lists, expectation by expectation. These pages load styling and scripts from other sites: they"
        " send requests there, and without a network they are plain, and their index empty.",
    )
    results = sorted((folder / "docs" / "expectations" / "validations").rglob("*.html"))
    return [
        replace(border, pages={path.stem.removeprefix("border-"): path.relative_to(folder).as_posix() for path in results}),
        _link(
            partial(_models, store, release, settings, project, folder / "docs" / "dbt"),
            "docs/dbt/index.html",
            "dbt docs",
            "Every model with its SQL, columns, tests and lineage, as the project is now.",
        ),
        Link(
            "card.html",
            "Card",
            "Table and plot of the run that was the last when `make card` was called.",
            "" if (folder / "card.html").exists() else "`make card` writes it",
        ),
    ]


def _link(make: Callable[[], None], address: str, name: str, about: str) -> Link:
    try:
        make()
    except RecsysError as error:
        return Link(address, name, about, str(error))
    return Link(address, name, about)


def _border(store: Store, release: Manifest, settings: Settings, folder: Path) -> None:
    made_of = store.load("features", release.parents["features"])
    profile = warehouse.profile(store.load("raw", made_of.manifest.parents["raw"]), settings)
    nulls = open_source(settings.dataset).max_null_share
    borders = {"raw": validation.raw.border(profile, nulls, validation.limits("raw", settings))}
    features = Features(made_of, settings)
    snapshot, rules = store.load("release", release.id), BusinessRules(features.state(features.as_of), settings)
    for list_kind in LIST_KINDS:
        _, lists = releases.read_all(snapshot, list_kind)
        borders[f"lists_{list_kind}"] = validation.lists.border(list_kind, lists, rules)
    expectations.document(borders, folder)


def _models(store: Store, release: Manifest, settings: Settings, project: Path, folder: Path) -> None:
    features = store.load("features", release.parents["features"])
    warehouse.document(features.manifest.made_from, settings, project, folder)
