"""A store with releases to serve."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recsys.checks import Subject
from recsys.config import Settings
from recsys.store import Store, open_store
from recsys.verdicts import Evidence, Verdict

PASSED = Verdict("events", 100, 50, "block", True, "100 events")


def publish_copy(store: Store, subject: Subject, id: str, live: bool = True, hurt: str = "") -> None:
    """A copy of the subject's release under another id, with evidence; `hurt`: a file that is changed after it was committed."""
    parents = subject.release.manifest.parents
    with store.draft() as folder:
        shutil.copytree(subject.release.path, folder, dirs_exist_ok=True)
        for other in ("manifest.json", "evidence.json"):
            (folder / other).unlink(missing_ok=True)
        manifest = store.commit(folder, "release", subject.release.manifest.made_from, parents, id)
    evidence = Evidence(parents["model"], parents["features"], manifest.content, {"simpler": [PASSED]}, {"lists": [PASSED]})
    store.attach_evidence(id, evidence.to_json())
    if hurt:
        store.backend.write(f"releases/{id}/{hurt}", b"hurt")
    if live:
        store.point(id, store.current())


@pytest.fixture
def shop(tmp_path: Path, subject: Subject) -> Store:
    """A store whose live release is called "first"."""
    store = open_store(str(tmp_path), "shop")
    publish_copy(store, subject, "first")
    return store


def serving(settings: Settings, **dials: Any) -> Settings:
    """Settings of a service that looks at nothing by itself, unless told to."""
    return replace(settings, serve=replace(settings.serve, **{"poll_seconds": 1000.0, "flush_seconds": 1000.0} | dials))
