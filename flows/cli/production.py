"""Production and branches: which store a command uses, and the rule that only committed code publishes to production."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys import RecsysError
from recsys.store import sha256

CODE = Path(__file__).resolve().parents[1]  # flows/, or its copy in a container
ROOT = CODE.parent if (CODE.parent / "dbt_project").is_dir() else CODE  # a container has everything in one folder
PRODUCTION = "prod"  # Metaflow's name of the production branch
IMAGE_LOCK = "RECS_IMAGE_LOCK"  # set by the Dockerfile: path of the lock that the image was built from
MAX_NAMED = 5  # changed files that a message names


def is_shared(root: str) -> bool:
    """Whether several people and machines use the store at this root."""
    return root.startswith("s3://")


def is_production(root: str, branch: str) -> bool:
    """Whether this is a shared production store; a directory on one machine is not."""
    return is_shared(root) and branch == PRODUCTION


def store_branch(branch: str, root: str) -> str:
    """The name of a branch's folder below the store's root; empty for the root itself, which production uses. branch: Metaflow's
    name, such as `prod`, `test.x` or `user.alice`. On one machine, a user's own branch uses the root too."""
    if branch == PRODUCTION or (branch.startswith("user.") and not is_shared(root)):
        return ""
    if branch == "user.":
        raise RecsysError(f"METAFLOW_USER is not set, and each user has a branch of the store {root}; set it, or pass PRODUCTION=1")
    return branch


def branch_name(branch: str) -> str:
    """Metaflow's name of a branch: `feature/My-x` becomes test.feature_my_x; user.alice stays as it is."""
    if not branch or branch.startswith("user."):
        return branch
    return "test." + re.sub("[^a-z0-9_]", "_", branch.removeprefix("test.").lower())


def describe_store(root: str, branch: str) -> str:
    """Describes a store for people, with how to choose production's; only the root if it is a directory."""
    if not is_shared(root):
        return root
    if branch == PRODUCTION:
        return f"{root} (production)"
    whose = "yours" if branch == f"user.{os.environ.get('METAFLOW_USER')}" else "a branch"
    return f"{root.rstrip('/')}/{branch} ({whose}; PRODUCTION=1 for production)"


def code_version(context: Any = None) -> dict[str, Any]:
    """Commit, dirty flag and hash of the lock. Taken before a run starts and sent with it, because containers have no
    repository."""
    lock = ROOT / "requirements" / "run.lock"
    return {
        "commit": _git("rev-parse", "HEAD").strip(),
        "dirty": bool(changed_files()),
        "lock": sha256(lock) if lock.exists() else "",
    }


def changed_files() -> list[str]:
    """Files that differ from the commit, including new ones."""
    return [line[3:] for line in _git("status", "--porcelain", "--", ".").splitlines()]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout


def require_committed(code: Mapping[str, Any]) -> None:
    """Raises RecsysError unless the code that is about to publish to production is committed."""
    if is_committed(code):
        return
    files = changed_files()
    more = [f"{len(files) - MAX_NAMED} more"] * (len(files) > MAX_NAMED)
    reason = f"these files differ from commit {code['commit'][:12]}: {', '.join(files[:MAX_NAMED] + more) or 'not known here'}"
    raise RecsysError(
        f"production publishes committed code only, and {reason if code['commit'] else f'git finds no commit in {ROOT}'};"
        " commit and run again, or leave out PRODUCTION=1 to publish to your own branch"
    )


def require_committed_release(release: str, code: Mapping[str, Any]) -> None:
    """Raises RecsysError unless the code that made a release was committed."""
    if not is_committed(code):
        raise RecsysError(
            f"release {release} was made by uncommitted code (commit {code.get('commit') or 'none'}, changed since:"
            f" {code.get('dirty', False)}), and production publishes committed code only; commit, and make another release with"
            " `make run PRODUCTION=1`"
        )


def is_committed(code: Mapping[str, Any]) -> bool:
    return bool(code.get("commit")) and not code.get("dirty")


def require_image_of(code: Mapping[str, Any]) -> None:
    """Raises RecsysError in a container whose image was built from another lock than the code's. Does nothing elsewhere."""
    file = os.environ.get(IMAGE_LOCK)
    if file and code["lock"] and (lock := sha256(Path(file))) != code["lock"]:
        raise RecsysError(
            f"this image was built from another requirements/run.lock (sha256 {lock[:12]}) than that of the code (sha256"
            f" {code['lock'][:12]}); rebuild it (docker build --platform linux/amd64 -f deploy/Dockerfile -t recs .), push it,"
            " write its digest into [cloud] image of config.toml and deploy again"
        )
