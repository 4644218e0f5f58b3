"""The short summary at the end of a run, read back from its artifacts."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from metaflow import Flow, namespace
from metaflow.client import Run
from metaflow.exception import MetaflowNotFound
from rich.console import Console
from rich.markup import escape

from cli.production import ROOT, is_production, store_branch
from cli.terminal import table
from recsys import RecsysError
from recsys.pipeline import Selection
from recsys.releases import about
from recsys.settings import Settings, resolve
from recsys.store import Store, open_store
from recsys.validation_report import CheckResult
from reporting.metrics import lines, monitored

namespace(None)  # runs of all users count


def _runs(flow: str) -> Iterator[Run]:
    """Yields the runs of a flow, newest first."""
    with suppress(MetaflowNotFound):
        yield from Flow(flow)


def latest_run(flow: str = "TrainFlow") -> Run:
    run = next(_runs(flow), None)
    if run is None:
        raise RecsysError(f"there is no run of {flow} yet; `make run` makes the first one")
    return run


def settings_of(run: Run) -> Settings:
    """The settings that a run was started with."""
    data = run["_parameters"].task.data
    return resolve(data.config, data.dataset, data.as_of, data.sample, data.inputs)


def place_of(run: Run) -> tuple[str, str]:
    """Root of the store that a run works in, and its branch as Metaflow names it."""
    data = run["_parameters"].task.data
    tags = (tag.partition(":") for tag in run.system_tags)
    return data.root or data.config["store"]["root"], next((value for name, _, value in tags if name == "project_branch"), "")


def store_of(run: Run, settings: Settings) -> Store:
    """The store that a run works in."""
    root, branch = place_of(run)
    return open_store(root, settings.name, ROOT, store_branch(branch, root), settings.store.endpoint)


def last_landing(dataset: str) -> tuple[str, Settings, Store]:
    """Returns the id of the raw snapshot of the last TrainFlow on a dataset, the settings of the run, and its store."""
    for run in _runs("TrainFlow"):
        task = run["land"].task if "land" in run else None
        if task is None or (task["dataset"].data or task["config"].data["dataset"]) != dataset:
            continue
        if "raw_id" not in task:
            raise RecsysError(f"{run.pathspec} kept no data: {refusal(run.pathspec) or 'it broke down'}; run again, then ask again")
        settings = settings_of(run)
        return task["raw_id"].data, settings, store_of(run, settings)
    raise RecsysError(f"there is no run of TrainFlow on {dataset} yet; `make run DATASET={dataset}` makes one")


def refusal(path: str) -> str:
    """Why a run stopped, in the words of the step that refused; empty if it broke down without any."""
    if not path:
        return ""
    for step in Run(path):
        for task in step:
            if not task.successful and "refusal" in task and task["refusal"].data:
                return task["refusal"].data
    return ""


def learned(path: str) -> tuple[list[str], list[str]]:
    """Returns the results of a finished TuneFlow: the lines that it adds to tuning.md, and its advice for config.toml."""
    data = Run(path)["compare"].task.data
    return data.log, data.advice


class RunRecord:
    """Reads the artifacts of a run in Metaflow, finished or refused, as attributes. If several tasks kept one of that name, the
    last one counts. `name in record` tells whether any did."""

    def __init__(self, path: str):
        self.run = Run(path)
        self._tasks = [task for step in self.run for task in step]  # newest first

    def __contains__(self, name: str) -> bool:
        return any(name in task for task in self._tasks)

    def __getattr__(self, name: str) -> Any:
        for task in self._tasks:
            if name in task:
                return task[name].data
        raise AttributeError(f"{self.run.pathspec} kept no {name}")

    @property
    def settings(self) -> Settings:
        return settings_of(self.run)

    @property
    def same(self) -> str:
        """The variables that make a further `make` command use the same dataset and store, such as ` DATASET=shop`."""
        given = {"DATASET": self.dataset, "SAMPLE": "" if self.sample == 1 else f"{self.sample:g}", "STORE": self.root}
        given["PRODUCTION"] = "1" * is_production(*place_of(self.run))
        return "".join(f" {name}={shlex.quote(value)}" for name, value in given.items() if value)


def summarise(path: str, cpu_seconds: float, console: Console) -> None:
    """Prints what a TrainFlow or a RecommendFlow found, chose, made and cost; one that was refused, as far as it came."""
    left = RunRecord(path)
    settings = left.settings
    _print_data(left, settings, console)
    if "champion" in left:
        console.print(f"lists       of model {left.champion.model_id}, release {left.champion.release}")
    if "selection" in left:
        for line in _gaps(left.selection, settings):
            console.print(line, markup=False, soft_wrap=True)
        console.print(f"winner      [bold]{left.selection.winner}[/bold], model {left.selection.model_id}")
        for words in lines(left.report, left.selection.winner, settings) if "report" in left else ():
            console.print("metric      {}  {}  {}".format(*words), markup=False, soft_wrap=True)
    _print_lists(left, settings, console)
    _print_costs(left.run, cpu_seconds, console)
    if not left.run.successful:
        _print_refused(left, console)
        return
    if "champion" in left:
        other = "" if left.live_id == left.release_id else f"; it knows as many days as {left.release_id}, which this run made"
        console.print(f"release     [bold]{left.live_id}[/bold] is live{other}")
        return
    place = f"the canary of {float(left.canary) * 100:g}% of the users" if left.canary else "live"
    console.print(f"release     [bold]{left.release_id}[/bold] is {place}, content {left.report.content}")
    verbs = ["report", *(["diff"] if left.report.compared_with else []), "export TO=data/lists.parquet"]
    console.print(f"look next   {' · '.join(f'make {verb}{left.same}' for verb in verbs)}", markup=False, soft_wrap=True)


def _print_data(left: RunRecord, settings: Settings, console: Console) -> None:
    """Prints which data a run read, how many events it rejected, and the id of their features."""
    if "built" not in left:
        console.print(f"\n[bold]{settings.name}[/bold]")
        return
    built, counts = left.built, left.built.counts
    console.print(
        f"\n[bold]{settings.name}[/bold]  {counts['events']:,} events of {counts['users']:,} users and {counts['items']:,} items,"
        f" {counts['first_day']} to {counts['last_day']}"
    )
    console.print(f"quarantine  {built.quarantine}")
    for result in left.raw_results:
        if result.name == "ignored_columns":
            console.print(result.message, markup=False, soft_wrap=True)
    console.print(f"features    {built.id} {'reused' if built.reused else 'built'}")


def _print_lists(left: RunRecord, settings: Settings, console: Console) -> None:
    """Prints how many items the business rules removed, and the check results; before there are lists, those of the raw data."""
    if "release_id" in left:
        console.print(_rules(left, settings), soft_wrap=True)
    checks = left.report.checks if "report" in left else {"raw": left.raw_results} if "raw_results" in left else {}
    if checks:
        _print_results(checks, console, refusal(left.run.pathspec))


def _print_refused(left: RunRecord, console: Console) -> None:
    """Prints that a run published nothing, and the commands that show why."""
    made = "release_id" in left
    told = f"[bold]{left.release_id}[/bold] is not published" if made else "none was made"
    console.print(f"release     {told}; what is live has not changed")
    report = f"make report RELEASE={left.release_id}{left.same}" if made else ""
    look = filter(None, ("make card" if "report" in left else "", report, f"make releases{left.same}"))
    console.print(f"look next   {' · '.join(look)}", markup=False, soft_wrap=True)


def tell_monitoring(path: str, cpu_seconds: float, console: Console) -> None:
    """Prints the tables of a finished MonitorFlow: days, measured metrics beside those of the holdout, and check results."""
    left = RunRecord(path)
    if not left.run.successful:
        return
    for headers, *rows in monitored(left.report, left.settings):
        console.print(table(headers, [[escape(cell) for cell in row] for row in rows]))
    console.print(f"kept as {left.report.name} in the store; nothing was moved; {cpu_seconds:.1f} CPU seconds")


def _gaps(selection: Selection, settings: Settings) -> Iterator[str]:
    """Yields a line for each thing that a run left out, skipped or added because it had few data: features, recommenders, and
    windows of selection."""
    for name, columns in selection.left_out.items():
        yield f"left out    of {name}, {len(columns)} features with too few values: {', '.join(columns)}"
    yield from (f"skipped     {reason}" for reason in selection.skipped.values())
    windows = min(len(found[settings.list_kind]) - 1 for found in selection.evaluations.values())
    if windows < (wanted := settings.evaluation.selection_windows):
        chosen = "" if windows else "; the simplest recommender is taken"
        why = f"the others have too few days of data before them, with horizon_days = {settings.dataset.horizon_days}"
        yield f"selection   on {windows} of {wanted} windows (evaluation.selection_windows): {why}{chosen}"
    elif windows > wanted:
        few = f"the last {wanted} have fewer than {settings.evaluation.selection_users} users (evaluation.selection_users)"
        yield f"selection   on {windows} windows, since {few}"


def _rules(data: RunRecord, settings: Settings) -> str:
    """A line on how many items each business rule removed from the released lists of all users."""
    counts = about(store_of(data.run, settings).load("release", data.release_id))["rules"]
    words = {"seen": "had before", "withdrawn": "not available"}  # the other rules have the names of their settings in [rules]
    told = []
    for list_kind, found in counts.items():
        removed = ", ".join(f"{count:,} {words.get(name, name)}" for name, count in found.items() if count)
        told.append(f"{list_kind.replace('_', ' ')}: {removed or 'none'}")
    return f"rules       items removed from the lists of all users, by rule: {'; '.join(told)}"


def _print_results(checks: Mapping[str, Sequence[CheckResult]], console: Console, error: str) -> None:
    """Prints how many check results passed, then each that failed with the setting of its threshold, those that block first. error:
    the line that follows the summary; results that it explains are not printed here."""
    results = [result for found in checks.values() for result in found]
    failed = sorted((result for result in results if not result.passed), key=lambda result: not result.blocks)
    blocked = sum(result.blocks for result in failed)
    counts = f"{len(results) - len(failed)} passed, {len(failed) - blocked} warned" + (f", {blocked} blocked" if blocked else "")
    console.print(f"checks      {counts}", soft_wrap=True)
    for result in failed:
        if result.explanation in error:
            continue
        mark = "BLOCKED" if result.blocks else "warning"
        console.print(f"  {mark:<8}  {result.explanation}", markup=False, soft_wrap=True)
    for change in dict.fromkeys(result.expected for result in failed if result.expected):
        names = ", ".join(result.name for result in failed if result.expected == change)
        console.print(f"expected    {change}: {names} only warn", markup=False, soft_wrap=True)


def share_costs(steps: Mapping[str, float], run: float) -> tuple[int, dict[str, int]]:
    """Whole CPU seconds of a run, and its parts, which sum to them: each step of a second or more, and the rest. steps: CPU seconds
    by step, which are more than those of the run if it was resumed."""
    total = round(max(run, sum(steps.values())))
    parts = {name: int(spent) for name, spent in steps.items() if spent >= 1}
    return total, parts | {"starting steps and the rest": total - sum(parts.values())}


def _print_costs(run: Run, cpu_seconds: float, console: Console) -> None:
    """Prints the CPU seconds of a run and its parts, which sum to it, and the most memory that a task held. A resumed run also
    counts the steps that it did not repeat."""
    costs = {step.id: [task["cost"].data for task in step if "cost" in task] for step in reversed(list(run))}
    seconds = {name: sum(cost["cpu_seconds"] for cost in found) for name, found in costs.items() if found}
    total, parts = share_costs(seconds, cpu_seconds)
    steps = ", ".join(f"{name} {spent}" for name, spent in parts.items())
    memory = max((cost["memory_mb"] for found in costs.values() for cost in found), default=0)
    console.print(f"cost        {total} CPU seconds ({steps}), at most {memory:,} MB", soft_wrap=True)


TOLD = {"TrainFlow": summarise, "RecommendFlow": summarise, "MonitorFlow": tell_monitoring}  # what is printed at a run's end
