"""Writes settings in TOML."""

import json
import re
from typing import Any


def write_line(key: str, value: Any, comment: str = "") -> str:
    """Returns `key = value # comment` on one line."""
    written = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else write_text(key)
    return f"{written} = {_write(value)}" + (f" # {comment}" if comment else "")


def write_text(text: str) -> str:
    """Returns a text as a TOML string, in quotes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # the only control character that JSON does not escape


def _write(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(write_line(key, inner) for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_write, value)) + "]"
    return write_text(value) if isinstance(value, str) else json.dumps(value)
