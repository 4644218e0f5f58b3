"""Lazy packages: a package's `__init__` lists its public names, and each is imported when it is first used."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from sys import modules
from typing import Any


def lazy(package: str, file: str) -> Callable[[str], Any]:
    """Returns a `__getattr__` for a package (PEP 562) that imports a name when it is first used.

    package, file: the package's `__name__` and `__file__`. The names are those imported under `if TYPE_CHECKING:` in that file, so
    type checkers and readers see plain imports.
    """
    tree = ast.parse(Path(file).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset > 0]
    origins = {alias.name: node.module or "" for node in imports for alias in node.names}

    def get(name: str) -> Any:
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        origin = import_module(origins[name])
        found = vars(origin)[name] if name in vars(origin) else import_module(f"{origins[name]}.{name}")
        setattr(modules[package], name, found)
        return found

    return get
