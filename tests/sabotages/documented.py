"""The table of sabotages in docs/checks.md, from what became of them."""

import json
import re
from pathlib import Path

from sabotages.harness import SABOTAGES, Outcome

RESULTS = Path(__file__).parent / "results.json"
PAGE = Path(__file__).parents[2] / "docs" / "checks.md"
MARK = "<!-- Written by `SABOTAGE=all pytest tests/validation/test_sabotage.py`; changes by hand are lost. -->\n"


def write(outcomes: dict[tuple[str, str], Outcome], data: str) -> None:
    """Keeps the outcomes on one data set, by sabotage and place, and writes the table of all that are kept."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for (name, place), outcome in outcomes.items():
        results.setdefault(data, {}).setdefault(name, {})[place] = [outcome.level, _named(name, outcome)]
    results = {data: {name: found[name] for name in SABOTAGES if name in found} for data, found in results.items()}
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(MARK)] + MARK + "\n" + _table(results))


def _named(name: str, outcome: Outcome) -> str:
    """The check result that names the sabotage, or else the first."""
    return next((one for one in outcome.by if re.search(SABOTAGES[name].by, one)), outcome.by[0] if outcome.by else "")


def _table(results: dict[str, dict[str, dict[str, list[str]]]]) -> str:
    shown = [data for data in ("shop", "retail", "views", "films") if data in results]
    lines = [f"| What is wrong | In the | {' | '.join(shown)} |", "|---" * (2 + len(shown)) + "|"]
    for name, one in SABOTAGES.items():
        cells = [_cell(results[data].get(name, {}), len(one.places)) for data in shown]
        lines.append(f"| {one.says} | {'publishing' if one.at == 'report' else one.at} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(places: dict[str, list[str]], count: int) -> str:
    """`block: list_stability_items`, with the places where they differ, or where not all `count` were tried."""
    found: dict[str, list[str]] = {}
    for place, (level, by) in places.items():
        said = f"{level}: " + ("the step itself" if by == "refused" else f"`{by}`") if by else level
        found.setdefault(said, []).append(place)
    return "; ".join(
        said + (f" ({', '.join(where)})" if len(found) > 1 or len(places) < count else "") for said, where in found.items()
    )
