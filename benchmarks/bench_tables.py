"""bench.json in words and tables, and where they stand in the README."""

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
ROWS = {"land": "land (the simulator)"} | SERVING | TRAINING | {"validate": "validate"}
METRIC, LIST_KINDS = "ndcg@10", {"all_items": "all items", "new_items": "only new ones"}
Result = dict[str, Any]


def insert(readme: Path, results: dict[str, Result]) -> None:
    """Writes the tables between the README's marks."""
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise RecsysError(f"{readme.name} has no {BEGIN.strip()} ... {END} to put the tables in; write both on lines of their own")
    before, rest = text.split(BEGIN, 1)
    readme.write_text(before + BEGIN + render(results) + END + rest.split(END, 1)[1])


def render(results: dict[str, Result]) -> str:
    """All of it as Markdown; nothing where nothing was measured."""
    alternatives = [peers(name, result) for name, result in results.items()]
    parts = [made(results), costs(results), *growth(results), slowest(results), *alternatives] if results else []
    return "\n".join(f"{part}\n" for part in parts if part)


def made(results: dict[str, Result]) -> str:
    """When and where each size was run; its load is what other jobs, and the size before, had left."""
    parts = [
        f"{title(name, result)}: {result['date']}, commit {result['commit']}, {result['cores']} cores, load {result['load']:.1f},"
        f" yardstick {median(result['yardsticks']):.2f} CPU s ({min(result['yardsticks']):.2f} to {max(result['yardsticks']):.2f})"
        for name, result in results.items()
    ]
    return "Measured: " + ".\n".join(parts) + "."


def costs(results: dict[str, Result]) -> str:
    """What each step of each size cost."""
    rows = []
    for name, result in results.items():
        rows.append([f"**{title(name, result)}**: {size(result)}", "", "", "", "", ""])
        rows += [
            [words, f"{step['cpu_seconds']:,.1f}", f"{yards(step, result):,.1f}", *others(step)]
            for key, words in ROWS.items()
            if (step := total(result, key))
        ]
    return table(["step", "CPU s", "yardsticks", "wall s", "peak MB", "orchestration"], rows)


def others(step: Result) -> list[str]:
    share = step["orchestration"] / step["cpu_seconds"]
    return [f"{step['wall_seconds']:,.1f}", f"{step['peak_mb']:,}", f"{share:.0%}"]


def total(result: Result, key: str) -> Result:
    """A step, or all recommenders but two_stage together: costs add up, but for memory. Empty where there is none."""
    steps = [step for step in result["steps"] if row_of(step["step"]) == key]
    sums = {part: sum(step[part] for step in steps) for part in ("cpu_seconds", "orchestration", "wall_seconds")}
    return sums | {"peak_mb": max(step["peak_mb"] for step in steps)} if steps else {}


def row_of(step: str) -> str:
    return step if step in ROWS else "train others"


def yards(step: Result, result: Result) -> float:
    """CPU seconds in units of the yardstick's, which ran before each step."""
    return step["cpu_seconds"] / median(result["yardsticks"])


def title(name: str, result: Result) -> str:
    return f"{short(result['source_settings']['events'])} events" + (", wide catalogue" if name.endswith("_wide") else "")


def short(number: int) -> str:
    return f"10^{len(str(number)) - 1}" if str(number).strip("0") == "1" else f"{number:,}"


def size(result: Result) -> str:
    counts, square = result["counts"], result["counts"]["items"] ** 2 * 4 / 2**20
    return (
        f"{counts['events']:,} accepted, {counts['users']:,} users, {counts['items']:,} items"
        f" (a dense matrix of items by items would be {square:,.0f} MB)"
    )


def growth(results: dict[str, Result]) -> list[str]:
    """The costs at 10^7 events over those at 10^6, beside the ratio of events."""
    if not {"1e6", "1e7"} <= results.keys():
        return []
    small, large = results["1e6"], results["1e7"]
    events, users = (large["counts"][what] / small["counts"][what] for what in ("events", "users"))
    rows = []
    for words, keys in [("**serving features and lists**", list(SERVING)), *((words, [key]) for key, words in ROWS.items())]:
        first, last = (sum(total(result, key)["cpu_seconds"] for key in keys) for result in (small, large))
        in_yards = sum(yards(total(large, key), large) for key in keys) / sum(yards(total(small, key), small) for key in keys)
        rows.append([words, f"{last / first:.1f}", f"{in_yards:.1f}"])
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
    """Ours and the peers' at the holdout."""
    if not result["peers"]:
        return ""
    ours = result["peers"]["two_stage"]
    all_items, exclude_seen = (f"{words} ({ours[of]['users']:,} users)" for of, words in LIST_KINDS.items())
    rows = []
    for each, found in result["peers"].items():
        ratio = found["cpu_seconds"] / ours["cpu_seconds"]
        rows.append([each, f"{found['cpu_seconds']:.2f}", f"{ratio:.3f}", *(interval(found[of]) for of in LIST_KINDS)])
    return table([f"{title(name, result)}, holdout", "CPU s", "of two_stage", all_items, exclude_seen], rows)


def interval(found: Result) -> str:
    mean, low, high = found[METRIC]
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
