"""Packages: what each loads, and that others import only what it promises. The layers are in pyproject.toml, for import-linter."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from conftest import ROOT, make_release
from recsys.store import open_store

FLOWS = ROOT / "flows"
HEAVY = ("great_expectations", "sklearn", "dbt", "metaflow", "pandas", "scipy.stats", "lightgbm")
PACKAGES = sorted(".".join(file.parent.relative_to(FLOWS).parts) for file in FLOWS.rglob("__init__.py"))
LAZY = [name for name in PACKAGES if "lazy(__name__" in (FLOWS / name.replace(".", "/") / "__init__.py").read_text()]


def loaded(statement: str) -> set[str]:
    """The heavy libraries that a fresh process has loaded after a statement."""
    told = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print([name for name in {HEAVY} if name in sys.modules])"],
        cwd=FLOWS, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(ast.literal_eval(told.stdout))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_loads_no_heavy_library_by_itself(package: str) -> None:
    assert loaded(f"import {package}") == set()


@pytest.mark.parametrize(
    "module",
    [
        "recsys.serving.app",
        "recsys.releases.reader",
        "recsys.store.snapshots",
        "recsys.settings.loading",
        "cli.app",
        "recsys.pipeline",
        "recsys.daily_lists",
    ],
)
def test_what_serves_and_what_starts_loads_no_heavy_library(module: str) -> None:
    assert loaded(f"import {module}") == set()


def test_duckdb_reports_no_leaks_at_the_end() -> None:
    statement = "import duckdb, recsys.pipeline; from recsys.store import collect_rarely; collect_rarely()"
    command = [sys.executable, "-c", f"{statement}; duckdb.connect().execute('select 1').fetchall()"]
    told = subprocess.run(command, cwd=FLOWS, capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("", "")


def test_a_release_is_verified_and_read_without_pandas(tmp_path: Path) -> None:
    make_release(open_store(str(tmp_path), "shop"), "r")
    store = f"open_store({str(tmp_path)!r}, 'shop')"
    imports = "from contextlib import suppress; from recsys import RecsysError; from recsys.publishing import verify"
    verified = f"with suppress(RecsysError): verify({store}, 'r')"  # a fork's own check may be missing in this release
    assert loaded(f"{imports}; from recsys.store import open_store\n{verified}\npass") == set()


@pytest.mark.parametrize("package", LAZY)
def test_every_promised_name_is_there_and_is_no_module_of_the_same_name(package: str) -> None:
    tree = ast.parse((FLOWS / package.replace(".", "/") / "__init__.py").read_text())
    promised = [
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset for alias in node.names
    ]
    assert promised
    for name in promised:
        assert getattr(import_module(package), name) is not None, name
    assert len(promised) == len(set(promised))


def imports_of_others() -> Iterator[tuple[str, str]]:
    """Files with the modules inside other packages that they import from."""
    for file in FLOWS.rglob("*.py"):
        own = ".".join(file.relative_to(FLOWS).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                owner = max((name for name in LAZY if f"{node.module}.".startswith(f"{name}.")), key=len, default="")
                if owner and owner != node.module and not own.startswith(f"{owner}."):
                    yield own, node.module


def test_packages_import_from_others_only_what_these_promise() -> None:
    assert list(imports_of_others()) == []


def test_the_library_imports_no_metaflow_and_prints_nothing() -> None:
    for path in (ROOT / "flows" / "recsys").rglob("*.py"):
        assert not re.search(r"\bmetaflow\b|\bprint\(|os\.environ\[|getenv", path.read_text().replace("no Metaflow", "")), path


def test_tools_are_told_to_send_nothing_home() -> None:
    assert "send_anonymous_usage_stats: false" in (ROOT / "dbt_project" / "dbt_project.yml").read_text()
    assert "GX_ANALYTICS_ENABLED := false" in (ROOT / "Makefile").read_text()
