"""Verifies that a release may be served: its bytes, formats and structure, its own validation report, and what the service's code
answers from it. Every move of a pointer verifies first."""

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
from recsys.releases import CHUNK, HISTORY, Reader, connect, read_about, served
from recsys.store import Manifest, Snapshot, Store
from recsys.validation_report import ValidationReport, require

MAGIC = {".json": b"{", ".sqlite": b"SQLite format 3\0", ".parquet": b"PAR1", ".npz": b"PK"}
FILES = ("release.json", "items.parquet", "lists.sqlite", "fallback.json", "neighbours.npz", "holdout.parquet")
EMPTY = "lists are empty"
MOST_EMPTY = 0.5  # of the lists: who has had everything has none of new items; beyond, most users would get what everybody gets
MEND = "run the flow again, or roll back"


def verify(store: Store, release: str) -> ValidationReport:
    """All of it: raises RecsysError with what is wrong, or returns the validation report."""
    snapshot = verified(store, release)
    _try(release, lambda: Reader(snapshot).check())
    return _report(store, snapshot.manifest)


def verified(store: Store, release: str) -> Snapshot:
    """A release that is whole, in formats that carry no code, with a readable validation report that is its own and blocks nothing.
    Raises RecsysError otherwise. The service's own code is not asked yet."""
    snapshot = store.load("release", release)
    for name in snapshot.manifest.files:
        _refuse_code(release, snapshot.path / name, name)
    if missing := [name for name in FILES if name not in snapshot.manifest.files]:
        raise RecsysError(f"release {release} has no {', '.join(missing)}; {MEND}")
    _try(release, lambda: _refuse(release, *_faults(snapshot.path)))
    _report(store, snapshot.manifest)
    return snapshot


def _refuse(release: str, *faults: str) -> None:
    if faults:
        raise RecsysError(f"release {release}: {'; '.join(faults)}: {MEND}")


def _try(release: str, ask: Callable[[], None]) -> None:
    """Whatever a broken file makes a reader raise, in one line."""
    try:
        ask()
    except RecsysError:
        raise
    except Exception as error:
        raise RecsysError(f"release {release} cannot be read ({type(error).__name__}: {error}); {MEND}") from error


def _refuse_code(release: str, path: Path, name: str) -> None:
    """Pickles run code when they are read; none of the formats that a release may have does."""
    magic = MAGIC.get(path.suffix)
    if magic is None:
        _refuse(release, f"{name} is in no format that a release may have ({', '.join(MAGIC)})")
    elif path.open("rb").read(len(magic)) != magic:
        _refuse(release, f"{name} is not what its name says, maybe a pickle")
    elif path.suffix == ".npz":
        _try(release, lambda: _refuse(release, *_pickles(path, name)))


def _pickles(path: Path, name: str) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
        for member in archive.namelist():
            if not member.endswith(".npy") or archive.open(member).read(6) != b"\x93NUMPY":
                yield f"{name} holds {member}, which is no array, maybe a pickle"
                continue
            try:
                arrays[member.removesuffix(".npy")]
            except ValueError:
                yield f"{name} holds {member}, whose objects are a pickle"


def _faults(folder: Path) -> Iterator[str]:
    """What does not fit together: lengths and rows of the files among each other."""
    items = pq.read_table(folder / "items.parquet")
    if not items.num_rows or items["item_id"].null_count or len(items["item_id"].unique()) < items.num_rows:
        yield "items.parquet has no items, or one without an id, or one twice"
    listed, length = items["is_listed"].to_numpy(), json.loads((folder / "release.json").read_text())["length"]
    for name in ("lists.sqlite", *(f"alternatives/{file.name}" for file in sorted((folder / "alternatives").glob("*.sqlite")))):
        yield from _list_faults(folder, name, listed, length)
    with np.load(folder / "neighbours.npz", allow_pickle=False) as parts:
        data, indices, indptr = (parts[name] for name in ("data", "indices", "indptr"))
    if len(indptr) != items.num_rows + 1 or not len(data) == len(indices) == indptr[-1]:
        yield f"neighbours.npz is of {len(indptr) - 1} items, items.parquet of {items.num_rows}"
    if ((indices < 0) | (indices >= items.num_rows)).any():
        yield "neighbours.npz names an item that is none"
    fallback = json.loads((folder / "fallback.json").read_text())
    known, shown = set(items["item_id"].to_pylist()), (fallback["all"], fallback["static"], *fallback["segments"].values())
    if strange := {id for ids in shown for id in ids} - known:
        yield f"fallback.json names {min(strange)}, which is no item"
    list_kind = served(read_about(folder))
    if list_kind not in pq.read_table(folder / "holdout.parquet", columns=["list_kind"])["list_kind"].unique().to_pylist():
        yield f"holdout.parquet has nothing of {list_kind}"


def _list_faults(folder: Path, name: str, listed: NDArray[np.bool_], length: int) -> Iterator[str]:
    """Of a file of lists: not of the users that the release knows, or lists that nobody may see."""
    with closing(connect(folder / "lists.sqlite")) as connection:
        users = connection.execute("select count(*) from users").fetchone()[0]
    with closing(connect(folder / name)) as connection:
        lists = connection.execute("select count(*) from lists").fetchone()[0]
        if lists != users or not lists:
            yield f"{name} has lists of {lists} users, and knows {users} users"
        for list_kind in LIST_KINDS:
            cursor, tally = connection.execute(f"select {list_kind} from lists"), Counter[str]()
            while found := cursor.fetchmany(CHUNK):
                tally.update(_tally([blob for (blob,) in found], listed, length))
            everything = LIST_KINDS[list_kind] and listed.sum() <= HISTORY  # so few items that most users may have them all
            if everything or tally[EMPTY] <= MOST_EMPTY * lists:
                del tally[EMPTY]
            yield from (f"{name}: {count} {list_kind} {fault}" for fault, count in tally.items() if count)


def _tally(blobs: list[bytes], listed: NDArray[np.bool_], length: int) -> dict[str, int]:
    """How often each fault is in some packed lists."""
    whole = [blob for blob in blobs if len(blob) % 8 == 0 and len(blob) <= 8 * length]
    sizes = np.array([len(blob) // 8 for blob in whole], np.int64)
    items = np.frombuffer(b"".join(blob[: len(blob) // 2] for blob in whole), "<i4")
    scores = np.frombuffer(b"".join(blob[len(blob) // 2 :] for blob in whole), "<f4")
    known = (items >= 0) & (items < len(listed))
    columns = np.arange(sizes.max(initial=0), dtype=np.int32)
    table = np.tile(-1 - columns, (len(whole), 1))  # of lists side by side; what fills one up is nowhere twice
    table[columns < sizes[:, None]] = items
    table.sort(axis=1)
    return {
        f"lists are cut off or longer than {length}": len(blobs) - len(whole),
        "places name no item": int((~known).sum()),
        "places name an item that may not be shown": int((~listed[items[known]]).sum()),
        "lists hold an item twice": int((table[:, 1:] == table[:, :-1]).any(1).sum()),
        "scores are no number": int((~np.isfinite(scores)).sum()),
        EMPTY: int((sizes == 0).sum()),
    }


def _report(store: Store, manifest: Manifest) -> ValidationReport:
    """A release's own validation report, whichever checks ran; raises if there is none, it is another release's, or it blocks."""
    report = ValidationReport.read(store.report(manifest.id))
    if report is None or not report.results:
        raise RecsysError(f"release {manifest.id} has no validation report that can be read; {MEND}")
    refuse_foreign(report, manifest)
    require(report.checks, (), f"validation report of release {manifest.id}")
    return report


def refuse_foreign(report: ValidationReport, manifest: Manifest) -> None:
    bound = {"model": report.model, "features": report.features, "content": report.content}
    own = {"model": manifest.parents.get("model"), "features": manifest.parents.get("features"), "content": manifest.content}
    if bound != own:
        wrong = ", ".join(f"{name} {bound[name]}, not {own[name]}" for name in own if bound[name] != own[name])
        raise RecsysError(f"the validation report is not of release {manifest.id}: it speaks of {wrong}; run the flow again")
