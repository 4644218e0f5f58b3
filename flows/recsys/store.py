"""Snapshots, and the pointer to the one that is served: the one module that knows how anything durable is kept.

A snapshot is an immutable folder of data files with a `manifest.json`, and exists when its manifest does. The store of a
dataset is `<root>/<dataset>/`: `raw/ features/ models/ releases/ pins/ history.jsonl CURRENT CANARY`. The root is a directory or an
object store (`s3://bucket/prefix`); backends.py holds all that differs between the two.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from recsys import RecsysError
from recsys.backends import S3, Backend, Conflict, Directory, Usage

KINDS = {"raw": "raw", "features": "features", "model": "models", "release": "releases", "part": "parts"}
MANIFEST, EVIDENCE, CURRENT, HISTORY, CANARY = "manifest.json", "evidence.json", "CURRENT", "history.jsonl", "CANARY"


@dataclass(frozen=True)
class File:
    sha256: str
    bytes: int
    rows: int | None  # of a Parquet file; None for anything else


@dataclass(frozen=True)
class Manifest:
    """What a snapshot holds and what it was made from. `parents` maps a kind to an id, so lineage is a walk over manifests."""

    kind: str
    id: str
    parents: dict[str, str]
    made_from: dict[str, Any]
    files: dict[str, File]

    @property
    def content(self) -> str:
        """Hash of the data files alone: equal content means equal bytes under equal names."""
        return digest({name: file.sha256 for name, file in self.files.items()})

    def to_json(self) -> bytes:
        return json.dumps(
            asdict(self) | {"content": self.content}, indent=1, sort_keys=True, ensure_ascii=False, default=str
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        fields = json.loads(data)
        fields.pop("content")
        return cls(**fields | {"files": {name: File(**file) for name, file in fields["files"].items()}})


@dataclass(frozen=True)
class Snapshot:
    """A snapshot whose every file has been checked and can be read under `path`."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class Canary:
    """A release that is tried beside the live one. share: of the users who see it; at 0 it is a shadow that nobody sees. champion:
    what was live when it was made, which is what it may replace; the store notes it."""

    release: str
    share: float
    champion: str | None = None


def digest(value: Any) -> str:
    """Short stable name of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def describe(folder: Path) -> dict[str, File]:
    """Every file below a folder, by its relative name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): describe_file(path) for path in paths}


def describe_file(path: Path) -> File:
    import pyarrow.parquet as pq  # the steps that write nothing need none of it

    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
    return File(sha256(path), path.stat().st_size, rows)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_store(root: str, dataset: str, base: Path = Path(), branch: str = "", endpoint: str = "") -> "Store":
    """The store of one dataset; a relative root lies below `base`. What is deployed from a branch has a store of its own.
    `endpoint`: address of an S3-compatible store; empty for AWS."""
    root = f"{root.rstrip('/')}/{branch}" if branch else root
    backend = S3(root, dataset, endpoint) if root.startswith("s3://") else Directory(base / root / dataset)
    return Store(backend)


class Store:
    """Snapshots of one dataset, its pointer `CURRENT` and the history of the pointer's moves."""

    def __init__(self, backend: Backend):
        self.backend = backend

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """An empty folder to fill before `commit`; what is not committed is gone afterwards."""
        with self.backend.draft() as folder:
            try:
                yield folder
            except sqlite3.OperationalError as error:  # which has a word of its own for a full disk
                raise OSError(f"{error} ({folder})") from error

    def commit(
        self, folder: Path, kind: str, made_from: Mapping[str, Any], parents: Mapping[str, str] = {}, id: str = ""
    ) -> Manifest:
        """Makes the folder's files a snapshot. Without an id it is named by its content and origin, so committing the
        same twice finds the first."""
        files = describe(folder)
        id = id or digest([made_from.get("source"), dict(parents), {name: file.sha256 for name, file in files.items()}])
        if known := self.reuse(kind, id):
            return known
        manifest = Manifest(kind, id, dict(parents), dict(made_from), files)
        self.backend.commit(folder, _folder(kind, id), MANIFEST, manifest.to_json())
        return self.find(kind, id) or manifest

    def find(self, kind: str, id: str) -> Manifest | None:
        """None if there is none; raises if it cannot be read."""
        name = f"{_folder(kind, id)}/{MANIFEST}"
        data = self.backend.read(name)
        try:
            return Manifest.from_json(data) if data is not None else None
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise RecsysError(
                f"{name} in {self.backend} cannot be read ({type(error).__name__}: {error}); it was changed after it was written:"
                " put it back, or remove it and run again"
            ) from None

    def readable(self, kind: str, id: str) -> Manifest | None:
        """The same, for those who look at many: none if it cannot be read."""
        try:
            return self.find(kind, id)
        except RecsysError:
            return None

    def reuse(self, kind: str, id: str) -> Manifest | None:
        """The same, and as young as if it were made now, so that nothing frees it while a run builds on it."""
        return self.find(kind, id) if self.backend.renew(f"{_folder(kind, id)}/{MANIFEST}") else None

    def load(self, kind: str, id: str) -> Snapshot:
        """Checks every byte of a snapshot against its manifest; raises naming the file that differs."""
        manifest = self.find(kind, id)
        if manifest is None:
            raise RecsysError(f"{kind} snapshot {id} is not in {self.backend}; run the flow that makes it")
        folder = self.backend.fetch(_folder(kind, id), {name: file.bytes for name, file in manifest.files.items()})
        mend = f"remove {_folder(kind, id)}/{MANIFEST} there and run again, or roll back"
        for name, expected in manifest.files.items():
            path = folder / name
            if not path.is_file():
                raise RecsysError(f"{kind} snapshot {id}: {name} is missing from {self.backend}; {mend}")
            seen = sha256(path)
            if seen != expected.sha256:
                raise RecsysError(
                    f"{kind} snapshot {id}: {name} differs from its manifest (sha256 {seen[:12]}, not {expected.sha256[:12]});"
                    f" it was changed after it was written: {mend}"
                )
        return Snapshot(folder, manifest)

    @contextmanager
    def borrow(self, kind: str, id: str) -> Iterator[Snapshot]:
        """Loads a snapshot for the length of a block. If that copies it from an object store, the copy is removed at the end of the
        block; a copy that was there before stays."""
        was_fetched = self.backend.has_copy(_folder(kind, id))
        try:
            yield self.load(kind, id)
        finally:
            if not was_fetched:
                self.forget(kind, id)

    def read(self, kind: str, id: str, name: str) -> bytes | None:
        """One file of a snapshot; none if it is missing, or not what was committed."""
        manifest, data = self.find(kind, id), self.backend.read(f"{_folder(kind, id)}/{name}")
        known = manifest.files.get(name) if manifest else None
        return data if data and known and hashlib.sha256(data).hexdigest() == known.sha256 else None

    def usage(self, kind: str, id: str, name: str = MANIFEST) -> Usage:
        """What a file of a snapshot takes, or with an empty name all of them, and when it was written."""
        return self.backend.usage(f"{_folder(kind, id)}/{name}".rstrip("/"))

    def newest(self, kind: str) -> list[str]:
        """The same, the one made last first."""
        return sorted(self.ids(kind), key=lambda id: (self.usage(kind, id).written, id), reverse=True)

    def forget(self, kind: str, id: str) -> None:
        """Removes the local copy of a snapshot of an object store. Files that are open stay readable."""
        self.backend.forget(_folder(kind, id))

    def ids(self, kind: str) -> list[str]:
        """Every snapshot of a kind that exists and can be read, in the order of their ids."""
        return [id for id in self.backend.children(KINDS[kind]) if self.readable(kind, id)]

    def attach_evidence(self, release: str, evidence: bytes) -> str:
        """Lays a release's evidence beside its manifest, once made, and returns its sha256."""
        self.backend.write(f"{_folder('release', release)}/{EVIDENCE}", evidence)
        return hashlib.sha256(evidence).hexdigest()

    def evidence(self, release: str) -> bytes | None:
        return self.backend.read(f"{_folder('release', release)}/{EVIDENCE}")

    def current(self) -> str | None:
        """Id of the release that is served."""
        data = self.backend.read(CURRENT)
        return data.decode().strip() if data else None

    def history(self) -> list[dict[str, Any]]:
        """The pointer's moves, oldest first. A move written down before a crash that kept it from happening is left out."""
        moves, release = [], self.current()  # before the history, which is never behind it
        for line in reversed((self.backend.read(HISTORY) or b"").splitlines()):
            move = json.loads(line)
            if move["release"] == release:
                moves.append(move)
                release = move["previous"]
        return moves[::-1]

    def point(self, release: str, expected: str | None, **facts: Any) -> None:
        """Moves `CURRENT` to a release if it still stands where the caller saw it; raises Conflict otherwise."""
        with self.backend.exclusive([HISTORY, CURRENT]) as seen:
            self._refuse_unknown(release)
            self._refuse_moved(expected)
            move = json.dumps({"release": release, "previous": expected, **facts}, sort_keys=True)
            self.backend.swap(HISTORY, (self.backend.read(HISTORY) or b"") + f"{move}\n".encode(), seen)
            self.backend.swap(CURRENT, f"{release}\n".encode(), seen)

    def note(self, name: str) -> bytes | None:
        """What was kept beside the snapshots under a name, such as `monitor/2024-06-01.json`."""
        return self.backend.read(name)

    def notes(self, folder: str) -> list[str]:
        """Names of what is kept in a folder, in their order."""
        return [f"{folder}/{name}" for name in sorted(self.backend.files(folder))]

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Keeps what `change` makes of what was kept; raises Conflict if another did so meanwhile."""
        with self.backend.exclusive([name]) as seen:
            self.backend.swap(name, change(self.backend.read(name)), seen)

    def canary(self) -> Canary | None:
        """The release that is tried beside the live one."""
        data = self.backend.read(CANARY)
        return Canary(**json.loads(data)) if data else None

    def point_canary(self, canary: Canary | None, expected: str | None) -> None:
        """Moves `CANARY`, or takes it away, if `CURRENT` still stands where the caller saw it; raises Conflict otherwise."""
        with self.backend.exclusive([CANARY]) as seen:
            self._refuse_moved(expected)
            if canary is None:
                self.backend.remove(CANARY)
            else:
                self._refuse_unknown(canary.release)
                self.backend.swap(CANARY, json.dumps(asdict(replace(canary, champion=expected))).encode(), seen)

    def pin(self, release: str, on: bool = True) -> None:
        """What is pinned is never freed."""
        with self.backend.exclusive([]):
            self._refuse_unknown(release)
            if on:
                self.backend.write(f"pins/{release}", b"")
            else:
                self.backend.remove(f"pins/{release}")

    def pins(self) -> list[str]:
        """What is pinned, in the order of the ids."""
        return self.backend.files("pins")

    def _refuse_unknown(self, release: str) -> None:
        if self.find("release", release) is None:
            raise RecsysError(f"release {release} is not in {self.backend}; `make releases` lists what is")

    def _refuse_moved(self, expected: str | None) -> None:
        if (current := self.current()) != expected:
            raise Conflict(
                f"another run published {current} while this one, judged against {expected or 'an empty store'}, was under"
                " way; nothing was lost: run again to be judged against it"
            )

    def free(self, kind: str, id: str) -> None:
        """Deletes a snapshot: the manifest first, so that a kill leaves none that is half there."""
        self.backend.remove(f"{_folder(kind, id)}/{MANIFEST}")
        self.backend.remove(_folder(kind, id))


def _folder(kind: str, id: str) -> str:
    if id in ("", "..") or PurePosixPath(id).name != id:
        raise RecsysError(f'"{id}" is no snapshot id; `make releases` lists them')
    return f"{KINDS[kind]}/{id}"
