"""What makes production different from a branch: whose store is meant, and that only committed code publishes to it."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys import RecsysError
from recsys.store import sha256

CODE = Path(__file__).resolve().parents[1]  # flows/, or what a container has of it
ROOT = CODE.parent if (CODE.parent / "dbt_project").is_dir() else CODE  # a container has all in one folder
PRODUCTION = "prod"  # as Metaflow names it
IMAGE_LOCK = "RECS_IMAGE_LOCK"  # set by the Dockerfile: path of the lock that the image was built from
MOST_NAMED = 5  # files in a message


def is_shared(root: str) -> bool:
    """Whether several people and machines use the store at this root."""
    return root.startswith("s3://")


def is_production(root: str, branch: str) -> bool:
    """Whether this is the production that others rely on: a directory on one machine is nobody else's."""
    return is_shared(root) and branch == PRODUCTION


def store_branch(branch: str, root: str) -> str:
    """The branch below the root whose store is meant; empty for the store at the root itself. `branch` is named as Metaflow does:
    `prod`, `test.x` or `user.alice`. A user's own branch has a store only below a shared root."""
    if branch == PRODUCTION or (branch.startswith("user.") and not is_shared(root)):
        return ""
    if branch == "user.":
        raise RecsysError(f"METAFLOW_USER is not set, and each user has a branch of the store {root}; set it, or pass PRODUCTION=1")
    return branch


def branch_name(branch: str) -> str:
    """How Metaflow names a branch, and with it its store: `feature/My-x` is test.feature_my_x; user.alice stays as it is."""
    if not branch or branch.startswith("user."):
        return branch
    return "test." + re.sub("[^a-z0-9_]", "_", branch.removeprefix("test.").lower())


def describe_store(root: str, branch: str) -> str:
    """Which store is meant, in words that tell how to reach production's. Just the root where that is a directory."""
    if not is_shared(root):
        return root
    if branch == PRODUCTION:
        return f"{root} (production)"
    whose = "yours" if branch == f"user.{os.environ.get('METAFLOW_USER')}" else "a branch"
    return f"{root.rstrip('/')}/{branch} ({whose}; PRODUCTION=1 for production)"


def code_version(context: Any = None) -> dict[str, Any]:
    """Commit, dirty flag and hash of the lock, taken where they are: containers have neither, so it travels with the run."""
    lock = ROOT / "requirements" / "run.lock"
    return {
        "commit": _git("rev-parse", "HEAD").strip(),
        "dirty": bool(changed_files()),
        "lock": sha256(lock) if lock.exists() else "",
    }


def changed_files() -> list[str]:
    """Files of the work tree that its commit does not hold as they are, new ones too."""
    return [line[3:] for line in _git("status", "--porcelain", "--", ".").splitlines()]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout


def require_committed(code: Mapping[str, Any]) -> None:
    """Raises unless a commit holds the code that is about to publish to production."""
    if is_committed(code):
        return
    named = changed_files()
    more = [f"{len(named) - MOST_NAMED} more"] * (len(named) > MOST_NAMED)
    seen = f"these files differ from commit {code['commit'][:12]}: {', '.join(named[:MOST_NAMED] + more) or 'not known here'}"
    raise RecsysError(
        f"production publishes committed code only, and {seen if code['commit'] else f'git finds no commit in {ROOT}'};"
        " commit and run again, or leave out PRODUCTION=1 to publish to your own branch"
    )


def require_committed_release(release: str, code: Mapping[str, Any]) -> None:
    """Raises unless a commit holds the code that made a release, which production's users are about to see."""
    if not is_committed(code):
        raise RecsysError(
            f"release {release} was made by code that no commit holds (commit {code.get('commit') or 'none'},"
            f" changed since: {code.get('dirty', False)}), and production publishes committed code only; commit, and make"
            " another by `make run PRODUCTION=1`"
        )


def is_committed(code: Mapping[str, Any]) -> bool:
    return bool(code.get("commit")) and not code.get("dirty")


def require_image_of(code: Mapping[str, Any]) -> None:
    """Raises in a container whose image was built from another lock than the code that it runs. Elsewhere nothing is compared."""
    file = os.environ.get(IMAGE_LOCK)
    if file and code["lock"] and (kept := sha256(Path(file))) != code["lock"]:
        raise RecsysError(
            f"this image was built from another requirements/run.lock (sha256 {kept[:12]}) than that of the code (sha256"
            f" {code['lock'][:12]}); rebuild it (docker build --platform linux/amd64 -f deploy/Dockerfile -t recs .), push it,"
            " write its digest into [cloud] image of config.toml and deploy again"
        )
