"""The store: immutable snapshots, and the pointer to the live release.

Only this package writes durable files. A store is a directory or a prefix of an S3 bucket. Pointers move by compare-and-swap, so a
killed process leaves the live release as it was.
"""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.store import processes
    from recsys.store.backends import Conflict, object_store_errors, s3_client
    from recsys.store.faults import END, describe_error, remedy, with_remedy, writing
    from recsys.store.leases import lease
    from recsys.store.processes import collect_rarely, end_with_parent, started, work_of
    from recsys.store.snapshots import KINDS, Canary, Manifest, Snapshot, Store, describe, digest, open_store, sha256

__getattr__ = lazy(__name__, __file__)
