"""Snapshots, and the pointer to the one that is served: the one module that knows how anything durable is kept.

A snapshot is an immutable folder of data files with a `manifest.json`, and exists when its manifest does. The store of a
dataset is `<root>/<dataset>/`: `raw/ features/ models/ releases/ pins/ history.jsonl CURRENT CANARY`. The root is a directory or an
object store (`s3://bucket/prefix`); backends.py holds all that differs between the two.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from recsys import RecsysError
from recsys.store.backends import S3, Backend, Conflict, Directory, Usage
from recsys.store.faults import writing

KINDS = {"raw": "raw", "features": "features", "model": "models", "release": "releases", "part": "parts"}
MANIFEST, REPORT, CURRENT, HISTORY, CANARY = "manifest.json", "validation_report.json", "CURRENT", "history.jsonl", "CANARY"
FORMAT = 2  # of snapshots; a change after which older ones cannot be read counts it up
NOTHING = "none"  # in CURRENT while the first release is published: a missing CURRENT beside a history is damage
log = logging.getLogger(__name__)


class OldFormat(RecsysError):
    """Another version of the code wrote a snapshot, in a format that this one cannot read."""


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
        fields = json.loads(json.dumps(asdict(self) | {"content": self.content, "format": FORMAT}, default=str))
        return json.dumps(fields | {"hash": digest(fields)}, indent=1, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Raises ValueError where it is not as it was written, and OldFormat where an earlier version of the code wrote it."""
        fields = json.loads(data)
        own = fields.pop("hash", None)
        if own not in (None, digest(fields)):
            raise ValueError(f"its content has hash {digest(fields)}, not {own}")
        content = fields.pop("content")
        if fields.pop("format", 1) != FORMAT:
            raise OldFormat
        made = cls(**fields | {"files": {name: File(**file) for name, file in fields["files"].items()}})
        if content != made.content:
            raise ValueError(f"its files have hash {made.content}, not {content}")
        return made


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
        self._told: set[str] = set()

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """An empty folder to fill before `commit`; what is not committed is gone afterwards."""
        with self.backend.draft() as folder, writing(folder):
            yield folder

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
        if data is None:
            return None
        try:
            manifest = Manifest.from_json(data)
            if (manifest.kind, manifest.id) != (kind, id):
                raise ValueError(f"it is of {manifest.kind} snapshot {manifest.id}")
            return manifest
        except OldFormat:
            raise OldFormat(
                f"{name} in {self.backend} was written by another version of the code, which this one cannot read; move the store's"
                " folder away and `make run`, or go back to that version"
            ) from None
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise RecsysError(
                f"{name} in {self.backend} cannot be read ({type(error).__name__}: {error}); it was changed after it was written:"
                " put it back, or remove it and run again"
            ) from None

    def readable(self, kind: str, id: str) -> Manifest | None:
        """The same, for those who look at many: none if it is damaged."""
        try:
            return self.find(kind, id)
        except OldFormat:
            raise
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

    def attach_report(self, release: str, report: bytes) -> str:
        """Lays a release's validation report beside its manifest, once made, and returns its sha256."""
        self.backend.write(f"{_folder('release', release)}/{REPORT}", report)
        return hashlib.sha256(report).hexdigest()

    def report(self, release: str) -> bytes | None:
        return self.backend.read(f"{_folder('release', release)}/{REPORT}")

    def current(self, strict: bool = True) -> str | None:
        """Id of the release that is served. A damaged or missing CURRENT is made good by the last line of the history, if its
        release can be read and has a validation report. Otherwise raises; if not `strict`, gives the last one it names."""
        release, wrong = self.pointed()
        if not wrong:
            return release
        moves = _moves(self.backend.read(HISTORY))
        last = moves[-1]["release"] if moves and moves[-1] else ""
        if self._is_kept(last) and self.readable("release", last) and _is_json(self.report(last)):
            self._warn(f"{wrong}; until then {last} counts as live, the last of {HISTORY}")
            return last
        if strict:
            raise RecsysError(f"{wrong}; {HISTORY} does not tell of a whole release that was live last, so nothing was changed")
        return next((move["release"] for move in reversed(moves) if move), None)

    def pointed(self) -> tuple[str | None, str]:
        """What CURRENT itself says, and what is wrong with it; "" if nothing is."""
        data = self.backend.read(CURRENT)
        named = (data or b"").decode(errors="replace").strip()
        if named == NOTHING or (data is None and self.backend.read(HISTORY) is None):
            return None, ""
        if self._is_kept(named):
            return named, ""
        return None, (
            f"{CURRENT} in {self.backend} is {named[:40]!r}, which is no release that is kept; `make rollback RELEASE=`, with one"
            " of `make releases`, writes it anew"
        )

    def _is_kept(self, release: str) -> bool:
        try:
            return self.backend.read(f"{_folder('release', release)}/{MANIFEST}") is not None
        except RecsysError:  # no id
            return False

    def _warn(self, fault: str) -> None:
        """Tells of damage, once."""
        if fault not in self._told:
            log.warning("%s", fault)
        self._told.add(fault)

    def history(self) -> list[dict[str, Any]]:
        """The pointer's moves, oldest first. A move written down before a crash that kept it from happening is left out. Of a line
        that is damaged, the moves beside it tell the release, and nothing else is known."""
        release = self.current(strict=False)  # before the history, which is never behind it
        lines = _moves(self.backend.read(HISTORY))
        if damaged := lines.count(None):
            self._warn(f"{damaged} of {len(lines)} lines of {HISTORY} in {self.backend} cannot be read and are left out")
        known, moves = [move for move in lines if move], list[dict[str, Any]]()
        while release:
            move = {"release": release, "previous": known[-1]["release"] if known else None}
            if any(move["release"] == release for move in reversed(known)):
                while (move := known.pop())["release"] != release:
                    pass
            moves.append(move)
            release = move["previous"]
        return moves[::-1]

    def point(self, release: str, expected: str | None, strict: bool = True, **facts: Any) -> None:
        """Moves `CURRENT` to a release if it still stands where the caller saw it, by `current` under the same `strict`; raises
        Conflict otherwise."""
        self._refuse_unknown(release)
        with self.backend.exclusive([CURRENT]) as seen:
            if self.backend.read(CURRENT) is None and self.backend.read(HISTORY) is None:
                self.backend.swap(CURRENT, f"{NOTHING}\n".encode(), seen)
        with self.backend.exclusive([HISTORY, CURRENT]) as seen:
            self._refuse_moved(expected, strict)
            move = json.dumps({"release": release, "previous": expected, **facts}, sort_keys=True)
            before = self.backend.read(HISTORY) or b""
            cut_off = b"\n" * (not before.endswith(b"\n") and bool(before))
            self.backend.swap(HISTORY, before + cut_off + f"{move}\n".encode(), seen)
            self.backend.swap(CURRENT, f"{release}\n".encode(), seen)

    def faults(self) -> list[str]:
        """Whatever is damaged besides the files of snapshots, a sentence each: pointers, the history, manifests."""
        release, wrong = self.pointed()
        found, moves = [wrong] if wrong else [], _moves(self.backend.read(HISTORY))
        if damaged := [str(place) for place, move in enumerate(moves, 1) if move is None]:
            found.append(f"{HISTORY} in {self.backend} cannot be read in line {', '.join(damaged)}; what it told is left out")
        if release and not any(move and move["release"] == release for move in moves):
            found.append(f"{HISTORY} in {self.backend} does not tell of {release}, which is live; only older releases are known")
        looks: list[Callable[[], object]] = [self.canary]
        looks += [partial(self.find, kind, id) for kind in KINDS for id in self.backend.children(KINDS[kind])]
        for look in looks:
            try:
                look()
            except RecsysError as error:
                found.append(str(error))
        return found

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
        try:
            canary = Canary(**json.loads(data)) if data is not None else None
            if canary and not (canary.release and 0 <= canary.share <= 1):
                raise ValueError(f"a share of {canary.share}")
            return canary
        except (ValueError, TypeError) as error:
            raise RecsysError(
                f"{CANARY} in {self.backend} cannot be read ({error}); `make canary OFF=1` takes it away, and with RELEASE= and"
                " SHARE= it is made again"
            ) from None

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

    def _refuse_moved(self, expected: str | None, strict: bool = True) -> None:
        if (current := self.current(strict)) != expected:
            raise Conflict(
                f"another run published {current} while this one, judged against {expected or 'an empty store'}, was under"
                " way; nothing was lost: run again to be judged against it"
            )

    def free(self, kind: str, id: str) -> None:
        """Deletes a snapshot: the manifest first, so that a kill leaves none that is half there."""
        self.backend.remove(f"{_folder(kind, id)}/{MANIFEST}")
        self.backend.remove(_folder(kind, id))


def _folder(kind: str, id: str) -> str:
    if id in (".", "..") or not re.fullmatch(r"[\w.@-]{1,200}", id):
        raise RecsysError(f'"{id}" is no snapshot id; `make releases` lists them')
    return f"{KINDS[kind]}/{id}"


def _moves(history: bytes | None) -> list[dict[str, Any] | None]:
    """Of every line of a history what it says, or None if it is damaged."""
    return [_move(line) for line in (history or b"").splitlines()]


def _move(line: bytes) -> dict[str, Any] | None:
    try:
        move = json.loads(line)
        is_move = isinstance(move["release"], str) and isinstance(move["previous"], str | None)
    except (ValueError, TypeError, LookupError):
        return None
    return move if is_move else None


def _is_json(data: bytes | None) -> bool:
    try:
        return bool(json.loads(data or b""))
    except ValueError:
        return False
