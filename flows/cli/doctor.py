"""Verbs about this installation: `doctor` and `schema`."""

import json
import os
import platform
import shutil
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile

from cli.production import ROOT, is_shared
from cli.releases import tell_faults
from cli.terminal import say
from cli.variables import Place, read_config
from recsys import RecsysError, recommenders, settings, sources, validation

SCHEMA = ROOT / "config.schema.json"
PACKAGES = ("metaflow", "dbt-core", "dbt-duckdb", "duckdb", "great-expectations", "scikit-learn", "pyarrow", "numpy")


def doctor(place: Place) -> None:
    """Prints versions, the settings of the dataset and disk space, and what is missing for a run.

    Example: make doctor DATASET=shop
    """
    missing = []
    say(f"python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores")
    for package in PACKAGES:
        try:
            say(f"  {package} {version(package)}")
        except PackageNotFoundError:
            missing.append(f"{package} is not installed; `make clean` and run again")
    chosen, kept = place.open()
    for name, value in asdict(chosen).items():
        say(f"{name} = {value}")
    free = shutil.disk_usage(ROOT).free / 2**30
    say(f"{free:.0f} GiB free, store at {kept.backend}, live release {kept.current(strict=False) or 'none'}")
    tell_faults(kept)
    folders = [ROOT / "data", *([] if is_shared(place.root) else [ROOT / place.root])]
    missing += [fault for folder in folders if (fault := unwritable(folder))]
    if free < 5:
        missing.append(f"{free:.1f} GiB of disk are free; 10 million events need about 5")
    if shutil.which("git") is None:
        missing.append("git is not on the PATH, so releases cannot record the commit of their code; install it")
    access = sources.Access(ROOT / "dbt_project" / "queries" / (place.dataset or read_config()["dataset"]), os.environ)
    try:
        sources.open_source(chosen.dataset).prepare(access)
    except RecsysError as error:
        missing.append(str(error))
    for problem in missing:
        say(f"missing: {problem}")
    if not missing:
        say("nothing is missing")


def unwritable(folder: Path) -> str:
    """Why no file can be made in a folder or, if it does not exist, in the one that it would be made in; empty if one can."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with TemporaryFile(dir=existing):
            return ""
    except OSError as error:
        return f"{existing} cannot be written: {error.strerror}; make it writable"


def schema() -> None:
    """Writes config.schema.json, with which editors check config.toml.

    Example: make schema
    """
    limits = {name: check.limits for name, check in validation.CHECKS.items()}
    made = settings.config_schema(recommenders.RECOMMENDERS, limits)
    SCHEMA.write_text(json.dumps(made, indent=1) + "\n")
    say(f"written to {SCHEMA.name}")
