"""The short summary at the end of a run, read back from its artifacts."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaflow import Flow, namespace
from metaflow.client import Run
from metaflow.exception import MetaflowNotFound
from rich.console import Console
from rich.table import Table

from cli.production import is_production, store_branch
from recsys import RecsysError
from recsys.evaluation import caption, share_of
from recsys.evaluation import summarise as summarise_window
from recsys.pipeline import Choice
from recsys.recommenders import LIST_KINDS
from recsys.releases import about
from recsys.settings import Settings, resolve
from recsys.store import Store, open_store
from recsys.validation import CHECKS
from recsys.validation_report import CheckResult

ROOT = Path(__file__).resolve().parents[2]


def latest_run(flow: str = "TrainFlow") -> Run:
    namespace(None)
    try:
        run = Flow(flow).latest_run
    except MetaflowNotFound:
        run = None
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
    """Of the last TrainFlow on a dataset: id of the raw snapshot, settings, and the store that holds it."""
    namespace(None)
    try:
        runs = list(Flow("TrainFlow"))
    except MetaflowNotFound:
        runs = []
    for run in runs:
        task = run["land"].task if "land" in run else None
        if task is None or (task["dataset"].data or task["config"].data["dataset"]) != dataset:
            continue
        if "raw_id" not in task:
            raise RecsysError(f"{run.pathspec} kept no data: {refusal(run.pathspec) or 'it broke down'}; run again, then ask again")
        data = task.data
        settings = resolve(data.config, data.dataset, data.as_of, data.sample, data.inputs)
        return data.raw_id, settings, store_of(run, settings)
    raise RecsysError(f"there is no run of TrainFlow on {dataset} yet; `make run DATASET={dataset}` makes one")


def maker(release: str) -> Run | None:
    """The newest run that made a release; none if it is gone."""
    namespace(None)
    try:
        for run in Flow("TrainFlow"):
            task = run["recommend"].task if "recommend" in run else None
            if task is not None and "release_id" in task and task["release_id"].data == release:
                return run
    except MetaflowNotFound:
        pass
    return None


def refusal(path: str) -> str:
    """Why a run stopped, in the words of the step that refused; empty if it broke down without any."""
    if not path:
        return ""
    namespace(None)
    for step in Run(path):
        for task in step:
            if not task.successful and "refusal" in task and task["refusal"].data:
                return task["refusal"].data
    return ""


def learned(path: str) -> tuple[list[str], list[str]]:
    """What a finished TuneFlow learned: lines for the log, and its advice."""
    namespace(None)
    data = Run(path)["compare"].task.data
    return data.log, data.advice


class RunRecord:
    """What a run left behind, finished or refused: each artifact as the last of its tasks that has it kept it; `name in left` tells
    whether one has."""

    def __init__(self, path: str):
        namespace(None)
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
        """What a further command needs to speak of the same dataset and store."""
        given = {"DATASET": self.dataset, "SAMPLE": "" if self.sample == 1 else f"{self.sample:g}", "STORE": self.root}
        given["PRODUCTION"] = "1" * is_production(*place_of(self.run))
        return "".join(f" {name}={shlex.quote(value)}" for name, value in given.items() if value)


def summarise(path: str, cpu_seconds: float, console: Console) -> None:
    """Prints what a TrainFlow found, chose, made and cost; one that was refused, as far as it came."""
    left = RunRecord(path)
    settings = left.settings
    _print_data(left, settings, console)
    if "choice" in left:
        for line in _gaps(left.choice, settings):
            console.print(line, markup=False, soft_wrap=True)
        console.print(f"winner      [bold]{left.choice.winner}[/bold], model {left.choice.model_id}")
        for list_kind in LIST_KINDS:
            console.print(_metrics(left, list_kind, settings))
    _print_lists(left, settings, console)
    console.print(_costs(left.run, cpu_seconds))
    if not left.run.successful:
        _print_refused(left, console)
        return
    place = f"the canary of {left.canary * 100:g}% of the users" if left.canary >= 0 else "live"
    console.print(f"release     [bold]{left.release_id}[/bold] is {place}, content {left.report.content}")
    look = f"make card · make releases{left.same} · make export TO=lists.parquet{left.same}"
    console.print(f"look next   {look}", markup=False, soft_wrap=True)


def tell_lists(path: str, cpu_seconds: float, console: Console) -> None:
    """Prints what a RecommendFlow made and cost; one that was refused, as far as it came."""
    left = RunRecord(path)
    settings = left.settings
    _print_data(left, settings, console)
    if "champion" in left:
        console.print(f"lists       of model {left.champion.model_id}, release {left.champion.release}")
    _print_lists(left, settings, console)
    console.print(_costs(left.run, cpu_seconds))
    if not left.run.successful:
        _print_refused(left, console)
        return
    other = "" if left.live_id == left.release_id else f"; it knows as many days as {left.release_id}, which this run made"
    console.print(f"release     [bold]{left.live_id}[/bold] is live{other}")


def _print_data(left: RunRecord, settings: Settings, console: Console) -> None:
    """The data that a run saw, and what became of it."""
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
    """What the rules did to the lists, and what all checks said; before there are lists, the checks of the raw data."""
    if "release_id" in left:
        console.print(_rules(left, settings), soft_wrap=True)
    if "report" in left:
        _print_results(left.report.checks, console)
        if silent := [name for name in CHECKS if name not in left.report.checks]:
            console.print(f"not run     {', '.join(silent)}: `make audit` runs them")
    elif "raw_results" in left:
        _print_results({"raw": left.raw_results}, console)


def _print_refused(left: RunRecord, console: Console) -> None:
    """That nothing was published, and where to look."""
    made = "release_id" in left
    told = f"[bold]{left.release_id}[/bold] is not published" if made else "none was made"
    console.print(f"release     {told}; what is live has not changed")
    look = ["make card"] if "choice" in left else []
    look += [f"make report RELEASE={left.release_id}{left.same}"] if made else []
    look += [f"make releases{left.same}"]
    console.print(f"look next   {' · '.join(look)}", markup=False, soft_wrap=True)


def tell_monitoring(path: str, cpu_seconds: float, console: Console) -> None:
    """Prints what a finished MonitorFlow found: days, then what was realised and promised, then check results."""
    namespace(None)
    if not Run(path).successful:
        return
    data = Run(path)["judge"].task.data
    settings = resolve(data.config, data.dataset, data.as_of, data.sample, data.inputs)
    report, users = data.report, f"users with {settings.dataset.a_target}"
    names = list(report.realised)
    table = Table("day", "release", users, "of them with a list", *names, box=None, padding=(0, 2, 0, 0))
    for one in report.days:
        means = [f"{one.metrics[name]:.3f}" if name in one.metrics else "" for name in names]
        table.add_row(one.day, one.release, str(one.users), str(one.listed), *means)
    console.print(table)
    for name, found in report.realised.items():
        console.print(
            f"{name} by the day {found}; promised over the horizon {report.promised.get(name, float('nan')):.3f}", markup=False
        )
    for result in report.results:
        console.print(f"{'passed' if result.passed else 'FAILED'}  [{result.name}] {result.message}", markup=False, soft_wrap=True)
    console.print(f"kept as {report.name} in the store; nothing was moved; {cpu_seconds:.1f} CPU seconds")


def _gaps(choice: Choice, settings: Settings) -> Iterator[str]:
    """What the data are too few for: features, recommenders, windows of selection."""
    for name, columns in choice.left_out.items():
        yield f"left out    of {name}, {len(columns)} features with too few values: {', '.join(columns)}"
    for reason in choice.skipped.values():
        yield f"skipped     {reason}"
    windows = min(len(found[settings.list_kind]) - 1 for found in choice.evaluations.values())
    if windows < (wanted := settings.evaluation.selection_windows):
        chosen = "" if windows else "; the simplest recommender is taken"
        why = f"the others have too few days of data before them, with horizon_days = {settings.dataset.horizon_days}"
        yield f"selection   on {windows} of {wanted} windows (evaluation.selection_windows): {why}{chosen}"


def _metrics(data: RunRecord, list_kind: str, settings: Settings) -> Table | str:
    holdout = {name: windows[list_kind][0] for name, windows in data.choice.evaluations.items()}
    title = f"holdout, {caption(list_kind, holdout[data.choice.winner], settings)}"
    if not len(holdout[data.choice.winner].users):
        return title
    table = Table(title=title, box=None, title_justify="left", title_style="", padding=(0, 2, 0, 0))
    best = data.oracle.get(list_kind)
    rows = holdout | ({"oracle": best} if best else {})
    summaries = {name: summarise_window(window, [settings.evaluation.k], settings) for name, window in rows.items()}
    decides, *others = summaries[data.choice.winner]
    for column in ("", f"{decides} [95% interval]", *(["of oracle"] if best else []), *others):
        table.add_column(column)
    for name, summary in summaries.items():
        share = [f"{share_of(best, rows[name], settings):.0%}"] if best else []
        means = [f"{summary[metric].mean:.3f}" for metric in others]
        table.add_row(name, str(summary[decides]), *share, *means, style="bold" if name == data.choice.winner else "")
    return table


def _rules(data: RunRecord, settings: Settings) -> str:
    """What was kept out of the released lists, rule by rule."""
    counts = about(store_of(data.run, settings).load("release", data.release_id))["rules"]
    told = [
        f"{list_kind}: {', '.join(f'{name} {count:,}' for name, count in found.items() if count) or 'nothing'}"
        for list_kind, found in counts.items()
    ]
    return f"rules       kept out of lists, {'; '.join(told)}"


def _print_results(checks: Mapping[str, Sequence[CheckResult]], console: Console) -> None:
    """How many passed, then each that failed with the setting of its threshold, those that block first."""
    results = [result for found in checks.values() for result in found]
    failed = sorted((result for result in results if not result.passed), key=lambda result: not result.blocks)
    blocked = sum(result.blocks for result in failed)
    counts = f"{len(results) - len(failed)} passed, {len(failed) - blocked} warned" + (f", {blocked} blocked" if blocked else "")
    console.print(f"checks      {counts}, of {', '.join(checks)}", soft_wrap=True)
    for result in failed:
        mark = "BLOCKED" if result.blocks else "warning"
        console.print(f"  {mark:<8}  {result.explanation}", markup=False, soft_wrap=True)
    for change in dict.fromkeys(result.expected for result in failed if result.expected):
        names = ", ".join(result.name for result in failed if result.expected == change)
        console.print(f"expected    {change}: {names} only warn", markup=False, soft_wrap=True)


def _costs(run: Run, cpu_seconds: float) -> Table:
    """CPU seconds of each step; orchestration is Metaflow, imports and dbt's own start."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("CPU seconds", "total", "orchestration", "peak MB"):
        table.add_column(column, justify="left" if column == "CPU seconds" else "right")
    total = orchestration = 0.0
    for step in reversed(list(run)):
        if not (costs := [task["cost"].data for task in step if "cost" in task]):
            continue
        step_total, step_orchestration = (sum(cost[part] for cost in costs) for part in ("total", "orchestration"))
        total, orchestration = total + step_total, orchestration + step_orchestration
        table.add_row(step.id, f"{step_total:.1f}", f"{step_orchestration:.1f}", str(max(cost["memory_mb"] for cost in costs)))
    between = max(cpu_seconds - total, 0)
    table.add_row("between steps", f"{between:.1f}", f"{between:.1f}", "")
    table.add_row("all", f"{cpu_seconds:.1f}", f"{orchestration + between:.1f}", "", style="bold")
    return table


TOLD = {"TrainFlow": summarise, "RecommendFlow": tell_lists, "MonitorFlow": tell_monitoring}  # what is printed at a run's end
