"""Clones of this repository as it lies here, changes that are not committed included."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


class Clone:
    """A git repository with one commit, and its commands."""

    def __init__(self, root: Path):
        self.root = root
        told = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
        )
        for name in told.stdout.decode().split("\0"):
            if name and (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, root / name)
        self.git("init", "--quiet")
        self.commit("Fork")

    def git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True).stdout

    def commit(self, message: str) -> None:
        """Commits everything."""
        self.git("add", "--all")
        self.git("-c", "user.name=tester", "-c", "user.email=tester@example.com", "commit", "--quiet", "--message", message)

    def reset(self) -> None:
        """Brings every file back; what git ignores stays."""
        self.git("reset", "--hard", "--quiet")
        self.git("clean", "--force", "-d", "--quiet")

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MAKE"))}
        environment |= {
            "METAFLOW_USER": "tester",
            "PYTHONPATH": str(self.root / "flows"),
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.root / "data"),
        }
        return subprocess.run([sys.executable, *arguments], cwd=self.root, env=environment, capture_output=True, text=True)

    def verb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What make runs for a verb, such as "fork", "NAME=acme"."""
        return self.python("flows/cli", *arguments)

    def passes(self, *arguments: str) -> None:
        """Runs Python, which has to end well."""
        done = self.python(*arguments)
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
