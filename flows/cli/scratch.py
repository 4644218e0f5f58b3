"""One folder for all temporary files of a command and of the processes that it starts, so that none of them outlives these."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PREFIX, LOCK = "reasonable-recs-", ".lock"
OLD = 86_400  # seconds after which a folder whose owner was killed before it locked it is removed


@contextmanager
def scratch() -> Iterator[Path]:
    """Joins the scratch folder of the process that started this one; if there is none, makes one and removes it at the end. Every
    process holds a lock on its folder for as long as it lives, so what killed processes left can be told, and is removed first."""
    place = Path(tempfile.gettempdir())
    if place.name.startswith(PREFIX) and (place / LOCK).exists():
        with (place / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield place
        return
    sweep(place)
    folder, held = _make(place)
    outside = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        with held:
            yield folder
    finally:
        tempfile.tempdir = None
        os.environ.pop("TMPDIR") if outside is None else os.environ.update(TMPDIR=outside)
        shutil.rmtree(folder, ignore_errors=True)


def _make(place: Path) -> tuple[Path, IO[str]]:
    """A new folder and its lock, held. Another process that sweeps may be faster than the lock: then one more is made."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        with contextlib.suppress(FileNotFoundError):
            lock = (folder / LOCK).open("w")
            fcntl.flock(lock, fcntl.LOCK_SH)
            if (folder / LOCK).exists():
                return folder, lock
            lock.close()


def sweep(place: Path) -> None:
    """Removes the scratch folders below a place that no process holds."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is held, of another user, or being removed
            if not (folder / LOCK).exists():
                if time.time() - folder.stat().st_mtime > OLD:
                    folder.rmdir()
                continue
            with (folder / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
