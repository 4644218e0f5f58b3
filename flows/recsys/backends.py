"""The two places a store can be: a directory, and an object store. One contract test runs on both."""

import fcntl
import functools
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from recsys import RecsysError


class Conflict(RecsysError):
    """Somebody else moved the pointer first."""


class Backend(Protocol):
    """What a place must offer to keep snapshots. Names are relative, with slashes."""

    def draft(self) -> Any: ...  # context manager: an empty local folder
    def commit(self, folder: Path, name: str, last: str, data: bytes) -> None: ...  # the file `last` after all others
    def fetch(self, name: str, sizes: Mapping[str, int]) -> Path: ...  # a local folder that holds these files
    def read(self, name: str) -> bytes | None: ...
    def write(self, name: str, data: bytes) -> None: ...  # atomic
    def children(self, name: str) -> list[str]: ...
    def exclusive(self, names: list[str]) -> Any: ...  # context manager: the versions that `swap` must still find
    def swap(self, name: str, data: bytes, seen: dict[str, str]) -> None: ...


class Directory:
    """A folder on a local or shared disk: temporary folder, fsync, rename; one publisher at a time by a lock."""

    def __init__(self, root: Path):
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        drafts = self.root / ".drafts"
        drafts.mkdir(parents=True, exist_ok=True)
        self._sweep(drafts)
        folder = drafts / f"{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self, drafts: Path) -> None:
        """Removes what killed processes left."""
        for path in drafts.iterdir():
            pid = path.name.split("-")[0]
            try:
                if pid.isdecimal():
                    os.kill(int(pid), 0)
            except ProcessLookupError:
                shutil.rmtree(path, ignore_errors=True)
            except PermissionError:
                continue

    def commit(self, folder: Path, name: str, last: str, data: bytes) -> None:
        (folder / last).write_bytes(data)
        for path in [*folder.rglob("*"), folder]:
            _sync(path)
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not (target / last).exists():  # no snapshot: its manifest was taken away
            shutil.rmtree(target)
        try:
            folder.rename(target)
        except OSError:
            if not (target / last).exists():  # else: another run made the same snapshot meanwhile
                raise
        _sync(target.parent)

    def fetch(self, name: str, sizes: Mapping[str, int]) -> Path:
        return self.root / name

    def read(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync(target.parent)

    def children(self, name: str) -> list[str]:
        folder = self.root / name
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    @contextmanager
    def exclusive(self, names: list[str]) -> Iterator[dict[str, str]]:
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield {}

    def swap(self, name: str, data: bytes, seen: dict[str, str]) -> None:
        self.write(name, data)


class S3:
    """An object store: upload, then put the manifest; the pointer moves by conditional put, so the slower publisher loses."""

    def __init__(self, root: str, dataset: str):
        import boto3  # the directory store needs none of it

        self.bucket, _, prefix = root.removeprefix("s3://").partition("/")
        self.prefix = "/".join(part for part in (prefix.strip("/"), dataset) if part)
        self.client = boto3.client("s3")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    @contextmanager
    def draft(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="draft-") as folder:
            yield Path(folder)

    def commit(self, folder: Path, name: str, last: str, data: bytes) -> None:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.client.upload_file(str(path), self.bucket, self._key(f"{name}/{path.relative_to(folder).as_posix()}"))
        self.write(f"{name}/{last}", data)

    def fetch(self, name: str, sizes: Mapping[str, int]) -> Path:
        folder = Path(_cache().name) / self.bucket / self._key(name)
        for file, size in sizes.items():
            path = folder / file
            if path.exists() and path.stat().st_size == size:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.client.download_file(self.bucket, self._key(f"{name}/{file}"), str(path))
            except self.client.exceptions.ClientError as error:
                if _code(error) != "404":
                    raise
        return folder

    def read(self, name: str) -> bytes | None:
        try:
            return self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None

    def write(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data)

    def children(self, name: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._key(f"{name}/"), Delimiter="/"
        )
        return sorted(entry["Prefix"].rstrip("/").rpartition("/")[2] for page in pages for entry in page.get("CommonPrefixes", []))

    @contextmanager
    def exclusive(self, names: list[str]) -> Iterator[dict[str, str]]:
        yield {name: tag for name in names if (tag := self._tag(name))}

    def _tag(self, name: str) -> str | None:
        try:
            return self.client.head_object(Bucket=self.bucket, Key=self._key(name))["ETag"]
        except self.client.exceptions.ClientError as error:
            if _code(error) == "404":
                return None
            raise

    def swap(self, name: str, data: bytes, seen: dict[str, str]) -> None:
        condition = {"IfMatch": seen[name]} if name in seen else {"IfNoneMatch": "*"}
        try:
            self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data, **condition)
        except self.client.exceptions.ClientError as error:
            if _code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                if self.read(name) == data:  # our own put, whose answer was lost and which was sent again
                    return
                raise Conflict("another run published while this one was under way; nothing was lost: run again") from None
            raise


@functools.cache
def _cache() -> tempfile.TemporaryDirectory[str]:
    """Where this process keeps what it fetched, until it ends."""
    return tempfile.TemporaryDirectory(prefix="snapshots-")


def _code(error: Any) -> str:
    return error.response["Error"]["Code"]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
