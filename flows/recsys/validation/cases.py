"""Cases: what people want to see in a user's list, or never again. Kept in git, a line of cases.jsonl each."""

import json
from typing import Any

from recsys import RecsysError
from recsys.store import Snapshot

FIELDS: dict[str, type] = {"dataset": str, "user": str, "expect": list, "not": list, "why": str, "severity": str}
SEVERITIES = ("warn", "block")


def parse(text: str) -> list[dict[str, Any]]:
    """The cases of cases.jsonl, each with the number of its line; raises naming a line that is none."""
    return [_case(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _case(number: int, line: str) -> dict[str, Any]:
    where = f"cases.jsonl, line {number}"
    try:
        case = json.loads(line)
    except json.JSONDecodeError as error:
        raise RecsysError(f"{where} cannot be read: {error}; mend that line, or add cases by `make add-case`") from None
    if not isinstance(case, dict) or {name: type(value) for name, value in case.items()} != FIELDS:
        raise RecsysError(f"{where} is {line.strip()}; it takes {', '.join(f'{n} ({t.__name__})' for n, t in FIELDS.items())}")
    refuse_senseless(case, where)
    return case | {"line": number}


def refuse_senseless(case: dict[str, Any], where: str) -> None:
    if not case["expect"] and not case["not"]:
        raise RecsysError(f"{where}: neither EXPECT nor NOT names an item; pass one, such as EXPECT=item1,item2")
    if not case["why"]:
        raise RecsysError(f'{where}: WHY is not given; pass WHY="..." for who finds the case failing')
    if case["severity"] not in SEVERITIES:
        raise RecsysError(f'{where}: SEVERITY is "{case["severity"]}"; pass one of {", ".join(SEVERITIES)}')


def refuse_unknown(case: dict[str, Any], release: Snapshot) -> None:
    """Raises naming the ids that a release does not know."""
    import pyarrow.parquet as pq  # every step of a flow reads cases, and none adds one

    from recsys.releases import read_lists

    about = f"release {release.manifest.id} of {case['dataset']}"
    if not any(case["user"] in users for users, _ in read_lists(release, "all_items")):
        raise RecsysError(f'USER "{case["user"]}" has no list in {about}; pass an id that `make export` shows')
    items = set(pq.read_table(release.path / "items.parquet", columns=["item_id"])["item_id"].to_pylist())
    if unknown := [item for item in (*case["expect"], *case["not"]) if item not in items]:
        raise RecsysError(f"{about} does not know the items {', '.join(unknown)}; pass ids that are in its items.parquet")
