"""The two backends of a store: a directory and an object store."""

import fcntl
import functools
import math
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys import RecsysError
from recsys.store.processes import host, is_dead, own_name

DAY = 86_400  # seconds


class Conflict(RecsysError):
    """Another process moved the pointer first."""


@dataclass(frozen=True)
class Usage:
    """Bytes of a file, or of all files in a folder. written: time of the last write in seconds since 1970; -inf without a file."""

    bytes: int
    written: float

    @property
    def hours(self) -> float:
        """Hours since the last write."""
        return (time.time() - self.written) / 3600


class Directory:
    """A folder on a local or shared disk. Writes go to a temporary name that is synced and renamed; a file lock excludes others.

    Names of files and folders are relative paths with slashes, here and in S3, which has the same methods.
    """

    def __init__(self, root: Path):
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    @contextmanager
    def draft(self) -> Iterator[Path]:  # yields an empty local folder
        self.sweep()
        folder = self._aside()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _aside(self) -> Path:
        """A new path in the folder of drafts; `sweep` removes what killed processes leave there."""
        drafts = self.root / ".drafts"
        drafts.mkdir(parents=True, exist_ok=True)
        return drafts / f"{own_name()}-{secrets.token_hex(4)}@{host()}"

    def sweep(self) -> None:
        """Removes the drafts of dead processes of this host, and drafts of other hosts that nobody has written to for a day."""
        for path in (self.root / ".drafts").glob("*"):
            owner, _, place = path.name.partition("@")
            process = owner.partition("-")[0]
            if process.partition(".")[0].isdecimal() and (is_dead(process) if place == host() else _is_old(path)):
                _delete(path)

    def commit(self, folder: Path, name: str, last: str, data: bytes) -> None:  # writes the file `last` after all others
        (folder / last).write_bytes(data)
        for path in [*folder.rglob("*"), folder]:
            _sync(path)
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not (target / last).exists():  # a deletion was interrupted after it removed the manifest
            shutil.rmtree(target)
        try:
            folder.rename(target)
        except OSError:
            if not (target / last).exists():  # otherwise another run has just made the same snapshot
                raise
        _sync(target.parent)

    def fetch(self, name: str, sizes: Mapping[str, int]) -> Path:  # returns a local folder with these files
        return self.root / name

    def has_copy(self, name: str) -> bool:  # whether there is a local copy that `fetch` made
        return False

    def forget(self, name: str) -> None:
        """Removes the local copy that `fetch` made. Does nothing here, since `fetch` does not copy."""

    def read(self, name: str) -> bytes | None:  # None if there is no such file
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:  # atomic
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._aside()
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError as error:
            error.filename = error.filename or str(target)
            raise
        finally:
            temporary.unlink(missing_ok=True)
        _sync(target.parent)

    def children(self, name: str) -> list[str]:  # names of the folders in a folder
        folder = self.root / name
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def remove(self, name: str) -> None:
        """Removes a file, or a folder and all below it. Moves it to the drafts first, so that it disappears at once, and deletes it
        there."""
        self.sweep()
        aside, target = self._aside(), self.root / name
        try:
            target.rename(aside)
        except FileNotFoundError:
            return
        _sync(target.parent)
        _delete(aside)
        if aside.exists():
            raise OSError(f"{name} cannot be deleted from {aside}")

    def renew(self, name: str) -> bool:  # sets the time of a file's last write to now; false if there is no such file
        try:
            os.utime(self.root / name)
        except FileNotFoundError:
            return False
        return True

    def usage(self, name: str) -> Usage:
        target = self.root / name
        paths = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
        stats = [path.stat() for path in paths]
        return Usage(sum(stat.st_size for stat in stats), max((stat.st_mtime for stat in stats), default=-math.inf))

    def files(self, name: str) -> list[str]:  # names of the files in a folder
        folder = self.root / name
        return sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []

    @contextmanager
    def exclusive(self, names: list[str]) -> Iterator[dict[str, str]]:  # yields versions of the files, for `swap`
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield {}

    def swap(self, name: str, data: bytes, seen: dict[str, str]) -> None:  # writes, or raises Conflict if another process did
        self.write(name, data)


def s3_client(endpoint: str = "") -> Any:
    """Returns a boto3 client of S3 that retries transient errors for about two minutes.

    endpoint: address of an S3-compatible store; by default that of METAFLOW_S3_ENDPOINT_URL, AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL, or else AWS.
    """
    import boto3  # only needed for object stores
    from botocore.config import Config

    address = endpoint or os.environ.get("METAFLOW_S3_ENDPOINT_URL")
    # S3-compatible stores often have no host name per bucket, and older ones refuse optional checksums.
    compatible: dict[str, Any] = {"s3": {"addressing_style": "path"}, "request_checksum_calculation": "when_required"}
    retrying = Config(connect_timeout=10, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 6})
    return boto3.client("s3", endpoint_url=address, config=retrying.merge(Config(**compatible if address else {})))


class S3:
    """A prefix of an S3 bucket. Pointers move by conditional puts, so of two publishers the slower one gets a Conflict."""

    def __init__(self, root: str, dataset: str, endpoint: str = ""):
        self.bucket, _, prefix = root.removeprefix("s3://").partition("/")
        self.prefix = "/".join(part for part in (prefix.strip("/"), dataset) if part)
        self.client = s3_client(endpoint)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def sweep(self) -> None:
        """Does nothing, since drafts are local temporary folders."""

    @contextmanager
    def draft(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="draft-") as folder:
            yield Path(folder)

    def commit(self, folder: Path, name: str, last: str, data: bytes) -> None:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.client.upload_file(str(path), self.bucket, self._key(f"{name}/{path.relative_to(folder).as_posix()}"))
        self.write(f"{name}/{last}", data)

    def fetch(self, name: str, sizes: Mapping[str, int]) -> Path:
        folder = self._copy(name)
        for file, size in sizes.items():
            path = folder / file
            if path.exists() and path.stat().st_size == size:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._if_exists():
                self.client.download_file(self.bucket, self._key(f"{name}/{file}"), str(path))
        return folder

    @contextmanager
    def _if_exists(self) -> Iterator[None]:
        """Ends the block where an object that it asks for does not exist."""
        try:
            yield
        except self.client.exceptions.ClientError as error:
            if _code(error) not in ("404", "NoSuchKey"):
                raise

    def has_copy(self, name: str) -> bool:
        return self._copy(name).exists()

    def forget(self, name: str) -> None:
        shutil.rmtree(self._copy(name), ignore_errors=True)

    def _copy(self, name: str) -> Path:
        return Path(_cache().name) / self.bucket / self._key(name)

    def read(self, name: str) -> bytes | None:
        with self._if_exists():
            return self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()
        return None

    def write(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data)

    def children(self, name: str) -> list[str]:
        return self._listed(name, "CommonPrefixes", "Prefix")

    def files(self, name: str) -> list[str]:
        return self._listed(name, "Contents", "Key")

    def _listed(self, name: str, part: str, field: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._key(f"{name}/"), Delimiter="/"
        )
        return sorted(entry[field].rstrip("/").rpartition("/")[2] for page in pages for entry in page.get(part, []))

    def remove(self, name: str) -> None:
        keys = [{"Key": entry["Key"]} for entry in self._entries(name)]
        for start in range(0, len(keys), 1000):  # the largest number that S3 allows in a request
            answer = self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": keys[start : start + 1000]})
            if refused := answer.get("Errors"):  # the request itself succeeds
                why = f"{refused[0].get('Code')}: {refused[0].get('Message')}"
                raise RecsysError(
                    f"{len(refused)} objects of {name} in {self} cannot be deleted ({why}); allow s3:DeleteObject and run again"
                )

    def renew(self, name: str) -> bool:
        place = {"Bucket": self.bucket, "Key": self._key(name)}
        with self._if_exists():
            self.client.copy_object(**place, CopySource=place, MetadataDirective="REPLACE")
            return True
        return False

    def usage(self, name: str) -> Usage:
        entries = list(self._entries(name))
        newest = max((entry["LastModified"].timestamp() for entry in entries), default=-math.inf)
        return Usage(sum(entry["Size"] for entry in entries), newest)

    def _entries(self, name: str) -> Iterator[Any]:
        key = self._key(name)
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=key):
            yield from (entry for entry in page.get("Contents", []) if entry["Key"] == key or entry["Key"].startswith(f"{key}/"))

    @contextmanager
    def exclusive(self, names: list[str]) -> Iterator[dict[str, str]]:
        yield {name: tag for name in names if (tag := self._tag(name))}

    def _tag(self, name: str) -> str | None:
        with self._if_exists():
            return self.client.head_object(Bucket=self.bucket, Key=self._key(name))["ETag"]
        return None

    def swap(self, name: str, data: bytes, seen: dict[str, str]) -> None:
        condition = {"IfMatch": seen[name]} if name in seen else {"IfNoneMatch": "*"}
        try:
            self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data, **condition)
        except self.client.exceptions.ClientError as error:
            if _code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                if self.read(name) == data:  # a retry of our own put, whose first answer was lost
                    return
                raise Conflict("another run published during this one; nothing was lost: run again") from None
            raise


Backend = Directory | S3


def object_store_errors() -> tuple[type[Exception], ...]:
    """Exception types of boto3; none if it has not been imported."""
    core: Any = sys.modules.get("botocore.exceptions")
    boto: Any = sys.modules.get("boto3.exceptions")
    return (core.BotoCoreError, core.ClientError, *((boto.Boto3Error,) if boto else ())) if core else ()


@functools.cache
def _cache() -> tempfile.TemporaryDirectory[str]:
    """Folder of this process's local copies. It is removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="snapshots-")


def _code(error: Any) -> str:
    return error.response["Error"]["Code"]


def _is_old(path: Path) -> bool:
    """Whether a file, or everything in a folder, was last written more than a day ago."""
    try:
        return time.time() - max(file.stat().st_mtime for file in (path, *path.rglob("*"))) > DAY
    except FileNotFoundError:  # another process is changing it
        return False


def _delete(path: Path) -> None:
    """Deletes a file or a folder. Another process may be deleting it at the same time."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
