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
        _remove(folder)


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
                _remove(folder)


def _remove(folder: Path) -> None:
    """The lock goes last: without one, what is left after a kill would not be told from a folder that is being made."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
