"""Renders bench.json as text and tables, and puts them into docs/benchmarks.md."""

from pathlib import Path
from statistics import median
from typing import Any

from recsys import RecsysError

BEGIN, END = "<!-- bench -->\n", "<!-- /bench -->"
SERVING = {"build_features serving": "build_features, serving cutoff", "recommend": "recommend, everybody's lists"}
TRAINING = {
    "build_features": "build_features, all cutoffs",
    "train two_stage": "train two_stage",
    "train others": "train the others",
}
ROWS = {"land": "land"} | SERVING | TRAINING | {"validate": "validate"}
METRIC, LIST_KINDS = "ndcg@10", {"all_items": "all items", "new_items": "only new ones"}
Result = dict[str, Any]


def insert(page: Path, results: dict[str, Result]) -> None:
    """Replaces the text between the marks BEGIN and END of a page. Raises RecsysError if it has no marks."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise RecsysError(f"{page.name} has no {BEGIN.strip()} ... {END} to put the tables in; write both on lines of their own")
    before, rest = text.split(BEGIN, 1)
    page.write_text(before + BEGIN + render(results) + END + rest.split(END, 1)[1])


def render(results: dict[str, Result]) -> str:
    """All results as Markdown; empty if there are none."""
    alternatives = [peers(name, result) for name, result in results.items()]
    parts = [made(results), costs(results), *growth(results), slowest(results), *alternatives] if results else []
    return "\n".join(f"{part}\n" for part in parts if part)


def made(results: dict[str, Result]) -> str:
    """Date, commit and machine of each size. load: average load of the machine before the run."""
    parts = [
        f"{title(name, result)}: {result['date']}, commit {result['commit']}, {result['cores']} cores, load {result['load']:.1f},"
        f" yardstick {median(result['yardsticks']):.2f} CPU s ({min(result['yardsticks']):.2f} to {max(result['yardsticks']):.2f})"
        for name, result in results.items()
    ]
    return "Measured: " + ".\n".join(parts) + "."


def costs(results: dict[str, Result]) -> str:
    """The table of costs by size and step."""
    rows = []
    for name, result in results.items():
        rows.append([f"**{title(name, result)}**: {size(result)}", "", "", "", "", ""])
        rows += [
            [label, f"{step['cpu_seconds']:,.1f}", f"{yards(step, result):,.1f}", *others(step)]
            for key, label in ROWS.items()
            if (step := total(result, key))
        ]
    return table(["step", "CPU s", "yardsticks", "wall s", "peak MB", "orchestration"], rows)


def others(step: Result) -> list[str]:
    share = step["orchestration"] / step["cpu_seconds"]
    return [f"{step['wall_seconds']:,.1f}", f"{step['peak_mb']:,}", f"{share:.0%}"]


def total(result: Result, key: str) -> Result:
    """Costs of a row of ROWS, which is one step or all recommenders except two_stage. Sums, and the maximum of memory. Empty if the
    result has no such step."""
    steps = [step for step in result["steps"] if row_of(step["step"]) == key]
    sums = {part: sum(step[part] for step in steps) for part in ("cpu_seconds", "orchestration", "wall_seconds")}
    return sums | {"peak_mb": max(step["peak_mb"] for step in steps)} if steps else {}


def row_of(step: str) -> str:
    return step if step in ROWS else "train others"


def yards(step: Result, result: Result) -> float:
    """CPU seconds of a step divided by the median of the yardsticks, which ran before each step."""
    return step["cpu_seconds"] / median(result["yardsticks"])


def title(name: str, result: Result) -> str:
    remark = {"1e6_wide": ", wide catalogue", "dense": ", dense"}.get(name, "")
    return f"{short(result['source_settings']['events'])} events{remark}"


def short(number: int) -> str:
    return f"10^{len(str(number)) - 1}" if str(number).strip("0") == "1" else f"{number:,}"


def size(result: Result) -> str:
    counts, square = result["counts"], result["counts"]["items"] ** 2 * 4 / 2**20
    return (
        f"{counts['events']:,} accepted, {counts['users']:,} users, {counts['items']:,} items"
        f" (a dense matrix of items by items would be {square:,.0f} MB)"
    )


def growth(results: dict[str, Result]) -> list[str]:
    """The table of costs at 10^7 events divided by those at 10^6."""
    if not {"1e6", "1e7"} <= results.keys():
        return []
    small, large = results["1e6"], results["1e7"]
    events, users = (large["counts"][what] / small["counts"][what] for what in ("events", "users"))
    rows = []
    for label, keys in [("**serving features and lists**", list(SERVING)), *((label, [key]) for key, label in ROWS.items())]:
        first, last = (sum(total(result, key)["cpu_seconds"] for key in keys) for result in (small, large))
        in_yards = sum(yards(total(large, key), large) for key in keys) / sum(yards(total(small, key), small) for key in keys)
        rows.append([label, f"{last / first:.1f}", f"{in_yards:.1f}"])
    head = f"10^7 over 10^6: {events:.1f} times the events, {users:.1f} times the users"
    return [table([head, "times the CPU s", "times the yardsticks"], rows)]


def slowest(results: dict[str, Result]) -> str:
    """The slowest step of each size, and the slowest function of `recommend`."""
    parts = []
    for name, result in results.items():
        step = max((step for step in result["steps"] if step["step"] != "land"), key=lambda step: step["cpu_seconds"])
        function, share = result["slowest_function"]["function"], result["slowest_function"]["share"]
        parts.append(f"{title(name, result)}: `{step['step']}`; in `recommend`, `{function}` ({share:.0%} of its time)")
    return "Slowest: " + ".\n".join(parts) + "."


def peers(name: str, result: Result) -> str:
    """The table of our recommenders and those of `implicit` on the holdout."""
    if not result["peers"]:
        return ""
    ours = result["peers"]["two_stage"]
    headings = [f"{label} ({ours[list_kind]['users']:,} users)" for list_kind, label in LIST_KINDS.items()]
    rows = []
    for recommender, scored in result["peers"].items():
        seconds, ratio = scored["cpu_seconds"], scored["cpu_seconds"] / ours["cpu_seconds"]
        rows.append([recommender, f"{seconds:.2f}", f"{ratio:.3f}", *(interval(scored[list_kind]) for list_kind in LIST_KINDS)])
    return table([f"{title(name, result)}, holdout", "CPU s", "of two_stage", *headings], rows)


def interval(scored: Result) -> str:
    mean, low, high = scored[METRIC]
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
