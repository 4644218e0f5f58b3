"""Sabotages: each breaks one thing of a healthy run, in one of the places below, and says which checks must tell.

`expect`: "block" where nobody could call it healthy, "warn" where it might be, "unnoticed" where it is known to pass. `by`: pattern
of the names of check results that may name it; "refused" where a step does not go on. `unnoticed_in`: data sets on which it is
known to pass. A run is broken in one of these places:

source    other rows stand in the place of the events, items or users that a run reads, or its files are changed
features  the Parquet files of the feature snapshot are changed before anything is learned or listed
model     the saved model is changed after it was scored
code      a function is replaced while lists are made and checked, as by a bug in it
release   the files of the release are changed before they are checked
validation report  something is done between checks and publishing
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from recsys import RecsysError
from recsys.recommenders.registry import load
from runs import Run, copied

PLACES = ("first", "later", "daily")  # the first training of a store, a later one, and daily lists
TRAINING = ("first", "later")


@dataclass(frozen=True)
class Sabotage:
    name: str
    says: str
    at: str
    expect: str
    by: str
    do: Callable[..., Any]
    places: tuple[str, ...] = PLACES
    unnoticed_in: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a sabotaged run, and the check results that are not of the healthy run. `level`: "block", "warn", "unnoticed",
    or "nothing" where this data has nothing to break."""

    level: str
    by: tuple[str, ...]
    message: str


class NothingToBreak(Exception):
    """This data, or the winner on it, lacks what a sabotage breaks."""


SABOTAGES: dict[str, Sabotage] = {}


def sabotage(at: str, expect: str, by: str, places: tuple[str, ...] = PLACES) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function, whose docstring says in one sentence what is wrong."""

    def register(do: Callable[..., Any]) -> Callable[..., Any]:
        SABOTAGES[do.__name__] = Sabotage(do.__name__, (do.__doc__ or "").strip(), at, expect, by, do, places)
        return do

    return register


def read(run: Run, inputs: dict[str, str]) -> None:
    run.settings = replace(run.settings, dataset=replace(run.settings.dataset, source_settings=inputs))


def attempt(healthy: Run, source: Path, one: Sabotage, folder: Path) -> Outcome:
    """Breaks a copy of a healthy run that was judged but not yet published, goes on from there, and says what became of it."""
    usual, run, error = healthy.warnings(), copied(healthy, folder), ""
    try:
        with pytest.MonkeyPatch.context() as patch:
            AT[one.at](run, source, one.do, patch)
        if _contents(run, one.at) == _contents(healthy, one.at):
            return Outcome("nothing", (), "it changes nothing here")
    except NothingToBreak as lacking:
        return Outcome("nothing", (), str(lacking))
    except RecsysError as refused:
        error = str(refused)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    warned = {name: message for name, message in run.warnings().items() if _subject(message) != _subject(usual.get(name, ""))}
    if error:
        blocked = re.findall(r"\[(\w+)\]", error) or ["refused"]
        return Outcome("block", tuple(dict.fromkeys([*blocked, *warned])), error)
    return Outcome("warn" if warned else "unnoticed", tuple(warned), "; ".join(warned.values()))


def _subject(message: str) -> str:
    """What a warning is about: the day of a change, or what is compared."""
    return message.partition(":")[0]


def _contents(run: Run, at: str) -> object:
    """What a sabotage at this place has changed, if anything."""
    if at == "report":
        return id(run)
    ids = {"source": run.raw_id, "features": run.features_id, "model": run.selection.model_id if run.selection else ""}
    kind = {"source": "raw"}.get(at, at if at in ids else "release")
    found = run.store.find(kind, ids.get(at, run.release_id))
    if not found:
        return id(run)
    return (found.content, found.made_from) if at == "model" else found.content  # some only change what a model says of itself


def _source(run: Run, source: Path, do: Callable[..., Any], patch: pytest.MonkeyPatch) -> None:
    do(run, source)
    run.go("land")


def _features(run: Run, source: Path, do: Callable[..., Any], patch: pytest.MonkeyPatch) -> None:
    known = run.store.load("features", run.features_id)
    with run.store.draft() as folder:
        shutil.copytree(known.path, folder, dirs_exist_ok=True)
        (folder / "manifest.json").unlink()
        do(folder, run)
        run.features_id = run.store.commit(folder, "features", known.manifest.made_from, known.manifest.parents).id
    run.go("train")


def _model(run: Run, source: Path, do: Callable[..., Any], patch: pytest.MonkeyPatch) -> None:
    assert run.selection
    known = run.store.load("model", run.selection.model_id)
    model = load(known.path)
    try:
        told = do(model, run) or {}
    except AttributeError as lacking:  # only one kind of recommender has trees, or candidate sources
        raise NothingToBreak(str(lacking)) from lacking
    with run.store.draft() as folder:
        model.save(folder)
        own_id = f"{known.manifest.id[:8]}5ab07a6e" if told else ""  # the same files would be the snapshot that is there already
        id = run.store.commit(folder, "model", known.manifest.made_from | told, {"features": run.features_id}, own_id).id
    run.selection = replace(run.selection, model_id=id, models=run.selection.models | {run.selection.winner: id})
    run.go("recommend")


def _code(run: Run, source: Path, do: Callable[..., Any], patch: pytest.MonkeyPatch) -> None:
    do(patch, run)
    run.go("recommend")


def _release(run: Run, source: Path, do: Callable[..., Any], patch: pytest.MonkeyPatch) -> None:
    known = run.store.load("release", run.release_id)
    with run.store.draft() as folder:
        shutil.copytree(known.path, folder, dirs_exist_ok=True)
        for name in ("manifest.json", "validation_report.json"):
            (folder / name).unlink()
        do(folder, run)
        id = f"{run.release_id[:9]}5ab07a6e"
        run.release_id = run.store.commit(folder, "release", known.manifest.made_from, known.manifest.parents, id).id
    run.go("validate")


def _report(run: Run, source: Path, do: Callable[..., Any], patch: pytest.MonkeyPatch) -> None:
    do(run)
    run.go("publish")


AT: dict[str, Callable[..., None]] = {
    "source": _source,
    "features": _features,
    "model": _model,
    "code": _code,
    "release": _release,
    "report": _report,
}
