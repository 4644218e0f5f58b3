"""Verifies that a release can be served: its checksums, formats, structure, validation report, and sample answers of the service's
code. Every change of a pointer verifies the release first."""

import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.recommenders import LIST_KINDS
from recsys.releases import ADVICE, CHUNK, HISTORY, Reader, about, connect, served
from recsys.store import Manifest, Snapshot, Store
from recsys.validation_report import ValidationReport, require

MAGIC = {".json": b"{", ".sqlite": b"SQLite format 3\0", ".parquet": b"PAR1", ".npz": b"PK"}
FILES = ("release.json", "items.parquet", "lists.sqlite", "fallback.json", "neighbours.npz", "holdout.parquet")
EMPTY = "lists are empty"
MAX_EMPTY = 0.5  # share of lists that may be empty; users who have had all items have no new items, but those should be few


def verify(store: Store, release: str) -> ValidationReport:
    """Verifies a release and returns its validation report. Raises RecsysError with what is wrong."""
    snapshot = verified(store, release)
    _try(release, lambda: Reader(snapshot).check())
    return _report(store, snapshot.manifest)


def verified(store: Store, release: str) -> Snapshot:
    """Verifies all but the answers of the service's code, and returns the release's snapshot: files and checksums, formats that
    cannot run code, and a validation report of this release that does not block. Raises RecsysError with what is wrong."""
    snapshot = store.load("release", release)
    for name in snapshot.manifest.files:
        _refuse_code(release, snapshot.path / name, name)
    if missing := [name for name in FILES if name not in snapshot.manifest.files]:
        raise RecsysError(f"release {release} has no {', '.join(missing)}; {ADVICE}")
    _try(release, lambda: _refuse(release, *_faults(snapshot)))
    _report(store, snapshot.manifest)
    return snapshot


def _refuse(release: str, *faults: str) -> None:
    if faults:
        raise RecsysError(f"release {release}: {'; '.join(faults)}: {ADVICE}")


def _try(release: str, read: Callable[[], None]) -> None:
    """Turns any error that a broken file causes into a RecsysError."""
    try:
        read()
    except RecsysError:
        raise
    except Exception as error:
        raise RecsysError(f"release {release} cannot be read ({type(error).__name__}: {error}); {ADVICE}") from error


def _refuse_code(release: str, path: Path, name: str) -> None:
    """Raises unless a file has one of the allowed formats. Pickles are not allowed, because they can run code when they are
    read."""
    magic = MAGIC.get(path.suffix)
    if magic is None:
        _refuse(release, f"{name} has none of the formats of a release ({', '.join(MAGIC)})")
    elif path.open("rb").read(len(magic)) != magic:
        _refuse(release, f"the content of {name} does not match its name, maybe it is a pickle")
    elif path.suffix == ".npz":
        _try(release, lambda: _refuse(release, *_pickles(path, name)))


def _pickles(path: Path, name: str) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
        for member in archive.namelist():
            if not member.endswith(".npy") or archive.open(member).read(6) != b"\x93NUMPY":
                yield f"{name} holds {member}, which is not an array, maybe a pickle"
                continue
            try:
                arrays[member.removesuffix(".npy")]
            except ValueError:
                yield f"{name} holds {member}, an array of pickled objects"


def _faults(snapshot: Snapshot) -> Iterator[str]:
    """Describes lengths, rows and ids of the files that do not match each other."""
    folder = snapshot.path
    items = pq.ParquetFile(folder / "items.parquet").read()  # pq.read_table would import pandas
    if not items.num_rows or items["item_id"].null_count or len(items["item_id"].unique()) < items.num_rows:
        yield "items.parquet has no items, an item without an id, or the same item twice"
    listed = np.array(items["is_listed"].to_pylist(), bool)  # `to_numpy` would import pandas too
    length = json.loads((folder / "release.json").read_text())["length"]
    for name in ("lists.sqlite", *(f"alternatives/{file.name}" for file in sorted((folder / "alternatives").glob("*.sqlite")))):
        yield from _list_faults(folder, name, listed, length)
    fallback = json.loads((folder / "fallback.json").read_text())
    known, shown = set(items["item_id"].to_pylist()), (fallback["all"], fallback["static"], *fallback["segments"].values())
    if unknown := {id for ids in shown for id in ids} - known:
        yield f"fallback.json has the item {min(unknown)}, which is not in items.parquet"
    list_kind = served(about(snapshot))
    if list_kind not in pq.ParquetFile(folder / "holdout.parquet").read(["list_kind"])["list_kind"].unique().to_pylist():
        yield f"holdout.parquet has no rows for {list_kind}"


def _list_faults(folder: Path, name: str, listed: NDArray[np.bool_], length: int) -> Iterator[str]:
    """Describes the faults of a file of lists. listed: for each item, whether it may be listed. length: longest list."""
    with closing(connect(folder / "lists.sqlite")) as connection:
        users = connection.execute("select count(*) from users").fetchone()[0]
    with closing(connect(folder / name)) as connection:
        lists = connection.execute("select count(*) from lists").fetchone()[0]
        if lists != users or not lists:
            yield f"{name} has lists of {lists} users, but lists.sqlite has {users} users"
        for list_kind in LIST_KINDS:
            cursor, tally = connection.execute(f"select {list_kind} from lists"), Counter[str]()
            while rows := cursor.fetchmany(CHUNK):
                tally.update(_tally([blob for (blob,) in rows], listed, length))
            has_few_items = LIST_KINDS[list_kind] and listed.sum() <= HISTORY  # most users may have had them all
            if has_few_items or tally[EMPTY] <= MAX_EMPTY * lists:
                del tally[EMPTY]
            yield from (f"{name}: {count} {list_kind} {fault}" for fault, count in tally.items() if count)


def _tally(blobs: list[bytes], listed: NDArray[np.bool_], length: int) -> dict[str, int]:
    """Counts the faults of some packed lists."""
    whole = [blob for blob in blobs if len(blob) % 8 == 0 and len(blob) <= 8 * length]
    sizes = np.array([len(blob) // 8 for blob in whole], np.int64)
    items = np.frombuffer(b"".join(blob[: len(blob) // 2] for blob in whole), "<i4")
    scores = np.frombuffer(b"".join(blob[len(blob) // 2 :] for blob in whole), "<f4")
    known = (items >= 0) & (items < len(listed))
    columns = np.arange(sizes.max(initial=0), dtype=np.int32)
    table = np.tile(-1 - columns, (len(whole), 1))  # one row per list, padded with distinct negative numbers
    table[columns < sizes[:, None]] = items
    table.sort(axis=1)
    return {
        f"lists are cut off or longer than {length}": len(blobs) - len(whole),
        "places hold no item of items.parquet": int((~known).sum()),
        "places hold an item that may not be shown": int((~listed[items[known]]).sum()),
        "lists hold an item twice": int((table[:, 1:] == table[:, :-1]).any(1).sum()),
        "scores are not finite": int((~np.isfinite(scores)).sum()),
        EMPTY: int((sizes == 0).sum()),
    }


def _report(store: Store, manifest: Manifest) -> ValidationReport:
    """The validation report of a release. Raises RecsysError if there is none, if it belongs to another release, or if it
    blocks."""
    report = read_report(store, manifest.id)
    refuse_foreign(report, manifest)
    require(report.checks, (), f"validation report of release {manifest.id}")
    return report


def read_report(store: Store, release: str) -> ValidationReport:
    """Reads the validation report of a release. Raises RecsysError if there is none that can be read."""
    report = ValidationReport.read(store.report(release))
    if report is None or not report.results:
        raise RecsysError(f"release {release} has no readable validation report; {ADVICE}")
    return report


def refuse_foreign(report: ValidationReport, manifest: Manifest) -> None:
    """Raises RecsysError if a validation report belongs to another release."""
    reported = {"model": report.model, "features": report.features, "content": report.content}
    own = {"model": manifest.parents.get("model"), "features": manifest.parents.get("features"), "content": manifest.content}
    if wrong := ", ".join(f"{name} {reported[name]}, not {own[name]}" for name in own if reported[name] != own[name]):
        raise RecsysError(f"the validation report does not belong to release {manifest.id}: it has {wrong}; run the flow again")
