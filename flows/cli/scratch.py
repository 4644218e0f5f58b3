"""Puts all temporary files of a command, and of the processes that it starts, into one folder that is removed at the end."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PREFIX, LOCK = "reasonable-recs-", ".lock"
OLD = 86_400  # seconds after which a folder without a lock is removed; its owner was killed before locking it


@contextmanager
def scratch() -> Iterator[Path]:
    """Uses the scratch folder of the parent process, or makes one and removes it at the end.

    Each process holds a lock on its folder while it lives. Folders without a lock were left by killed processes and are removed
    first.
    """
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
    """Makes a new folder and locks it. If another process removes the folder before it is locked, tries again."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        with suppress(FileNotFoundError):
            lock = (folder / LOCK).open("w")
            fcntl.flock(lock, fcntl.LOCK_SH)
            if (folder / LOCK).exists():
                return folder, lock
            lock.close()


def sweep(place: Path) -> None:
    """Removes the scratch folders below a place that no process holds."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is held, of another user, or being removed
            if not (folder / LOCK).exists():
                if time.time() - folder.stat().st_mtime > OLD:
                    folder.rmdir()
                continue
            with (folder / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)


def _remove(folder: Path) -> None:
    """Removes a folder, its lock file last, so that an interrupted removal is not mistaken for a folder that is being made."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
