"""Snapshots and pointers of a store.

A snapshot is an immutable folder of data files with a `manifest.json`; it exists when its manifest does. The store of a dataset is
`<root>/<dataset>/` with `raw/ features/ models/ releases/ pins/ history.jsonl CURRENT CANARY`. The root is a directory or a prefix
of an object store (`s3://bucket/prefix`); backends.py has the differences between the two.
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
FORMAT = 2  # of snapshots; raise it with a change after which older snapshots cannot be read
NOTHING = "none"  # content of CURRENT while the first release is published; if there is a history, a missing CURRENT is damage
log = logging.getLogger(__name__)


class OldFormat(RecsysError):
    """A snapshot has a format of another version of the code, which this version cannot read."""


@dataclass(frozen=True)
class File:
    sha256: str
    bytes: int
    rows: int | None  # of a Parquet file; None for anything else


@dataclass(frozen=True)
class Manifest:
    """Content and origin of a snapshot. parents: ids of the snapshots it was made from, by kind. made_from: settings, code etc."""

    kind: str
    id: str
    parents: dict[str, str]
    made_from: dict[str, Any]
    files: dict[str, File]

    @property
    def content(self) -> str:
        """Hash of the names and bytes of the data files."""
        return digest({name: file.sha256 for name, file in self.files.items()})

    def to_json(self) -> bytes:
        fields = json.loads(json.dumps(asdict(self) | {"content": self.content, "format": FORMAT}, default=str))
        return json.dumps(fields | {"hash": digest(fields)}, indent=1, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Raises ValueError if the manifest has been changed, and OldFormat if another version of the code wrote it."""
        fields = json.loads(data)
        own = fields.pop("hash", None)
        if own not in (None, digest(fields)):
            raise ValueError(f"its content has hash {digest(fields)}, not {own}")
        content = fields.pop("content")
        if fields.pop("format", 1) != FORMAT:
            raise OldFormat
        manifest = cls(**fields | {"files": {name: File(**file) for name, file in fields["files"].items()}})
        if content != manifest.content:
            raise ValueError(f"its files have hash {manifest.content}, not {content}")
        return manifest


@dataclass(frozen=True)
class Snapshot:
    """A snapshot whose files have been verified. path: a local folder with them."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class Canary:
    """A release that is tried alongside the live one.

    share: share of the users who see it; with 0 it is computed but not shown. champion: the release that was live when the canary
    was set, the only one it may replace; the store fills it in.
    """

    release: str
    share: float
    champion: str | None = None


def digest(value: Any) -> str:
    """Returns a hash of a JSON value, of 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def describe(folder: Path) -> dict[str, File]:
    """Returns every file below a folder, by its relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): describe_file(path) for path in paths}


def describe_file(path: Path) -> File:
    import pyarrow.parquet as pq  # only needed to write snapshots

    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
    return File(sha256(path), path.stat().st_size, rows)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_store(root: str, dataset: str, base: Path = Path(), branch: str = "", endpoint: str = "") -> "Store":
    """Opens the store of a dataset.

    root: a directory, relative to `base`, or s3://bucket/prefix. branch: a deployed branch has its own store below the root.
    endpoint: address of an S3-compatible store; empty for AWS.
    """
    root = f"{root.rstrip('/')}/{branch}" if branch else root
    backend = S3(root, dataset, endpoint) if root.startswith("s3://") else Directory(base / root / dataset)
    return Store(backend)


class Store:
    """Snapshots of one dataset, its pointer `CURRENT`, and the history of that pointer."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self._warned: set[str] = set()

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yields an empty folder to fill and `commit`. It is deleted at the end of the block."""
        with self.backend.draft() as folder, writing(folder):
            yield folder

    def commit(
        self, folder: Path, kind: str, made_from: Mapping[str, Any], parents: Mapping[str, str] = {}, id: str = ""
    ) -> Manifest:
        """Makes a snapshot of the files in a folder, and returns its manifest.

        id: by default a hash of content, source and parents, so that committing the same files again returns the first snapshot.
        """
        files = describe(folder)
        id = id or digest([made_from.get("source"), dict(parents), {name: file.sha256 for name, file in files.items()}])
        if known := self.reuse(kind, id):
            return known
        manifest = Manifest(kind, id, dict(parents), dict(made_from), files)
        self.backend.commit(folder, _folder(kind, id), MANIFEST, manifest.to_json())
        return self.find(kind, id) or manifest

    def find(self, kind: str, id: str) -> Manifest | None:
        """Returns the manifest of a snapshot, or None if there is none. Raises RecsysError if the manifest is damaged."""
        name = f"{_folder(kind, id)}/{MANIFEST}"
        data = self.backend.read(name)
        if data is None:
            return None
        try:
            manifest = Manifest.from_json(data)
            if (manifest.kind, manifest.id) != (kind, id):
                raise ValueError(f"it belongs to {manifest.kind} snapshot {manifest.id}")
            return manifest
        except OldFormat:
            raise OldFormat(
                f"{name} in {self.backend} was written by another version of the code, which this one cannot read; move the store's"
                " folder away and `make run`, or return to that version"
            ) from None
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise RecsysError(
                f"{name} in {self.backend} cannot be read ({type(error).__name__}: {error}); it was changed after it was written:"
                " restore it, or remove it and run again"
            ) from None

    def readable(self, kind: str, id: str) -> Manifest | None:
        """Like `find`, but returns None for a damaged manifest."""
        try:
            return self.find(kind, id)
        except OldFormat:
            raise
        except RecsysError:
            return None

    def reuse(self, kind: str, id: str) -> Manifest | None:
        """Like `find`, and sets the snapshot's age to 0, so that `make gc` does not delete it while a run uses it."""
        return self.find(kind, id) if self.backend.renew(f"{_folder(kind, id)}/{MANIFEST}") else None

    def load(self, kind: str, id: str) -> Snapshot:
        """Returns a snapshot after verifying every file against its manifest. Raises RecsysError naming a file that differs."""
        manifest = self.find(kind, id)
        if manifest is None:
            raise self.unknown(kind, id)
        folder = self.backend.fetch(_folder(kind, id), {name: file.bytes for name, file in manifest.files.items()})
        advice = f"remove {_folder(kind, id)}/{MANIFEST} there and run again, or roll back"
        for name, expected in manifest.files.items():
            path = folder / name
            if not path.is_file():
                raise RecsysError(f"{kind} snapshot {id}: {name} is missing from {self.backend}; {advice}")
            seen = sha256(path)
            if seen != expected.sha256:
                raise RecsysError(
                    f"{kind} snapshot {id}: {name} differs from its manifest (sha256 {seen[:12]}, not {expected.sha256[:12]});"
                    f" it was changed after it was written: {advice}"
                )
        return Snapshot(folder, manifest)

    @contextmanager
    def borrow(self, kind: str, id: str) -> Iterator[Snapshot]:
        """Loads a snapshot for a block. A local copy that this makes of an object store is removed at the end of the block."""
        was_fetched = self.backend.has_copy(_folder(kind, id))
        try:
            yield self.load(kind, id)
        finally:
            if not was_fetched:
                self.forget(kind, id)

    def read(self, kind: str, id: str, name: str) -> bytes | None:
        """Returns one file of a snapshot, or None if it is missing or has been changed."""
        manifest, data = self.find(kind, id), self.backend.read(f"{_folder(kind, id)}/{name}")
        known = manifest.files.get(name) if manifest else None
        return data if data and known and hashlib.sha256(data).hexdigest() == known.sha256 else None

    def usage(self, kind: str, id: str, name: str = MANIFEST) -> Usage:
        """Returns the size and the last write of a file of a snapshot; of all its files for an empty name."""
        return self.backend.usage(f"{_folder(kind, id)}/{name}".rstrip("/"))

    def newest(self, kind: str) -> list[str]:
        """Returns the ids of all readable snapshots of a kind, newest first."""
        return sorted(self.ids(kind), key=lambda id: (self.usage(kind, id).written, id), reverse=True)

    def forget(self, kind: str, id: str) -> None:
        """Removes the local copy of a snapshot of an object store. Open files stay readable."""
        self.backend.forget(_folder(kind, id))

    def ids(self, kind: str) -> list[str]:
        """Returns the sorted ids of all readable snapshots of a kind."""
        return [id for id in self.backend.children(KINDS[kind]) if self.readable(kind, id)]

    def attach_report(self, release: str, report: bytes) -> None:
        """Writes a release's validation report to its folder."""
        self.backend.write(f"{_folder('release', release)}/{REPORT}", report)

    def report(self, release: str) -> bytes | None:
        return self.backend.read(f"{_folder('release', release)}/{REPORT}")

    def current(self, strict: bool = True) -> str | None:
        """Returns the id of the live release, or None if nothing is live.

        If CURRENT is damaged or missing, this is the last release of the history, provided that it can be read and has a validation
        report. Otherwise raises RecsysError, or if not `strict` returns the last release that the history names.
        """
        release, problem = self.pointed()
        if not problem:
            return release
        moves = _moves(self.backend.read(HISTORY))
        last = moves[-1]["release"] if moves and moves[-1] else ""
        if self._exists(last) and self.readable("release", last) and _is_json(self.report(last)):
            self._warn(f"{problem}; until then {last}, the last release in {HISTORY}, counts as live")
            return last
        if strict:
            raise RecsysError(f"{problem}; {HISTORY} does not end with a complete release, so nothing was changed")
        return next((move["release"] for move in reversed(moves) if move), None)

    def pointed(self) -> tuple[str | None, str]:
        """Returns the release that CURRENT names, and a description of what is wrong with CURRENT ("" if nothing is)."""
        data = self.backend.read(CURRENT)
        release = (data or b"").decode(errors="replace").strip()
        if release == NOTHING or (data is None and self.backend.read(HISTORY) is None):
            return None, ""
        if self._exists(release):
            return release, ""
        return None, (
            f"{CURRENT} in {self.backend} is {release[:40]!r}, which is not a release of the store; `make rollback RELEASE=`, with"
            " one of `make releases`, writes it again"
        )

    def _exists(self, release: str) -> bool:
        try:
            return self.backend.read(f"{_folder('release', release)}/{MANIFEST}") is not None
        except RecsysError:  # not an id
            return False

    def _warn(self, fault: str) -> None:
        """Logs a fault once."""
        if fault not in self._warned:
            log.warning("%s", fault)
        self._warned.add(fault)

    def history(self) -> list[dict[str, Any]]:
        """Returns the moves of CURRENT, oldest first.

        A move that was written but, because of a crash, not made is left out. Of a damaged line only the release is known, from the
        neighbouring moves.
        """
        release = self.current(strict=False)  # read before the history, which is written first
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
        """Moves `CURRENT` to a release. Raises Conflict if `current(strict)` is no longer `expected`.

        facts: further values to keep in the history.
        """
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
        """Describes all damage to pointers, the history and manifests, one sentence each. Files of snapshots are not checked."""
        release, problem = self.pointed()
        faults, moves = [problem] if problem else [], _moves(self.backend.read(HISTORY))
        if damaged := [str(number) for number, move in enumerate(moves, 1) if move is None]:
            faults.append(f"{HISTORY} in {self.backend} cannot be read in line {', '.join(damaged)}; these moves are left out")
        if release and not any(move and move["release"] == release for move in moves):
            faults.append(f"{HISTORY} in {self.backend} lacks {release}, which is live; only older releases are known")
        reads: list[Callable[[], object]] = [self.canary]
        reads += [partial(self.find, kind, id) for kind in KINDS for id in self.backend.children(KINDS[kind])]
        for read in reads:
            try:
                read()
            except RecsysError as error:
                faults.append(str(error))
        return faults

    def note(self, name: str) -> bytes | None:
        """Returns a file of the store that is not in a snapshot, such as `monitor/2024-06-01.json`, or None."""
        return self.backend.read(name)

    def notes(self, folder: str) -> list[str]:
        """Returns the sorted names of the files in a folder that is not a snapshot."""
        return [f"{folder}/{name}" for name in sorted(self.backend.files(folder))]

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replaces a file by the result of `change`, which gets the present content or None. Raises Conflict if another process
        replaced it in between."""
        with self.backend.exclusive([name]) as seen:
            self.backend.swap(name, change(self.backend.read(name)), seen)

    def canary(self) -> Canary | None:
        """Returns the canary, or None. Raises RecsysError if its file is damaged."""
        data = self.backend.read(CANARY)
        try:
            canary = Canary(**json.loads(data)) if data is not None else None
            if canary and not (canary.release and 0 <= canary.share <= 1):
                raise ValueError(f"a share of {canary.share}")
            return canary
        except (ValueError, TypeError) as error:
            raise RecsysError(
                f"{CANARY} in {self.backend} cannot be read ({error}); `make canary OFF=1` removes it, and RELEASE= with SHARE="
                " sets it again"
            ) from None

    def point_canary(self, canary: Canary | None, expected: str | None) -> None:
        """Sets or removes the canary. Raises Conflict if `CURRENT` is no longer `expected`."""
        with self.backend.exclusive([CANARY]) as seen:
            self._refuse_moved(expected)
            if canary is None:
                self.backend.remove(CANARY)
            else:
                self._refuse_unknown(canary.release)
                self.backend.swap(CANARY, json.dumps(asdict(replace(canary, champion=expected))).encode(), seen)

    def pin(self, release: str, on: bool = True) -> None:
        """Pins or unpins a release. `make gc` never deletes pinned releases."""
        with self.backend.exclusive([]):
            self._refuse_unknown(release)
            if on:
                self.backend.write(f"pins/{release}", b"")
            else:
                self.backend.remove(f"pins/{release}")

    def pins(self) -> list[str]:
        """Returns the sorted ids of the pinned releases."""
        return self.backend.files("pins")

    def _refuse_unknown(self, release: str) -> None:
        if self.find("release", release) is None:
            raise self.unknown("release", release)

    def unknown(self, kind: str, id: str) -> RecsysError:
        """The error for a snapshot that is not in the store."""
        if kind == "release":
            return RecsysError(f"release {id} is not in {self.backend}; `make releases` lists those that are")
        return RecsysError(f"{kind} snapshot {id} is not in {self.backend}; run the flow that makes it")

    def _refuse_moved(self, expected: str | None, strict: bool = True) -> None:
        if (current := self.current(strict)) != expected:
            raise Conflict(
                f"another run published {current} during this run, which was compared with {expected or 'an empty store'};"
                " nothing was lost: run again to be compared with it"
            )

    def free(self, kind: str, id: str) -> None:
        """Deletes a snapshot, its manifest first, so that an interruption leaves no incomplete snapshot."""
        self.backend.remove(f"{_folder(kind, id)}/{MANIFEST}")
        self.backend.remove(_folder(kind, id))


def _folder(kind: str, id: str) -> str:
    if id in (".", "..") or not re.fullmatch(r"[\w.@-]{1,200}", id):
        raise RecsysError(f'"{id}" is not a snapshot id; `make releases` lists them')
    return f"{KINDS[kind]}/{id}"


def _moves(history: bytes | None) -> list[dict[str, Any] | None]:
    """The move of each line of a history; None for a damaged line."""
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
