"""Cases: items that a user's list must or must not contain. Each is a line of cases.jsonl, which is kept in git."""

import json
from typing import Any

from recsys import RecsysError
from recsys.store import Snapshot

FIELDS: dict[str, type] = {"dataset": str, "user": str, "expect": list, "not": list, "why": str, "severity": str}
SEVERITIES = ("warn", "block")


def parse(text: str) -> list[dict[str, Any]]:
    """Parses cases.jsonl; each case gets its line number as `line`. Raises RecsysError naming the first invalid line."""
    return [_case(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _case(number: int, line: str) -> dict[str, Any]:
    where = f"cases.jsonl, line {number}"
    try:
        case = json.loads(line)
    except json.JSONDecodeError as error:
        raise RecsysError(f"{where} cannot be read: {error}; correct that line, or add cases with `make add-case`") from None
    if not isinstance(case, dict) or {name: type(value) for name, value in case.items()} != FIELDS:
        raise RecsysError(f"{where} is {line.strip()}; it takes {', '.join(f'{n} ({t.__name__})' for n, t in FIELDS.items())}")
    refuse_incomplete(case, where)
    return case | {"line": number}


def refuse_incomplete(case: dict[str, Any], where: str) -> None:
    """Raises RecsysError if a case names no item, no reason or an unknown severity. `where` starts the message."""
    if not case["expect"] and not case["not"]:
        raise RecsysError(f"{where}: neither EXPECT nor NOT names an item; pass one, such as EXPECT=item1,item2")
    if not case["why"]:
        raise RecsysError(f'{where}: WHY is not given; pass WHY="...", which is shown when the case fails')
    if case["severity"] not in SEVERITIES:
        raise RecsysError(f'{where}: SEVERITY is "{case["severity"]}"; pass one of {", ".join(SEVERITIES)}')


def refuse_unknown(case: dict[str, Any], release: Snapshot) -> None:
    """Raises RecsysError naming the user or item ids of a case that a release does not contain."""
    from recsys.releases import read_items, read_lists  # imported here because every flow step loads this module

    about = f"release {release.manifest.id} of {case['dataset']}"
    if not any(case["user"] in users for users, _ in read_lists(release, "all_items")):
        raise RecsysError(f'USER "{case["user"]}" has no list in {about}; pass an id that `make export` shows')
    (known,) = read_items(release, "item_id")
    if unknown := [item for item in (*case["expect"], *case["not"]) if item not in known]:
        raise RecsysError(f"{about} has no items {', '.join(unknown)}; pass ids that are in its items.parquet")
