"""The short summary at the end of a run, read back from its artifacts."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metaflow import Flow, namespace
from metaflow.client import Run
from metaflow.exception import MetaflowNotFound
from rich.console import Console
from rich.table import Table

from recsys import RecsysError
from recsys.checks import FAMILIES
from recsys.evaluation import PROTOCOLS, caption, share_of
from recsys.evaluation import summarise as summarise_window
from recsys.pipeline import Choice
from recsys.releases import about
from recsys.settings import Settings, resolve
from recsys.store import open_store
from recsys.verdicts import Evidence

ROOT = Path(__file__).resolve().parents[1]


def latest_run(flow: str = "TrainFlow") -> Run:
    namespace(None)
    try:
        run = Flow(flow).latest_run
    except MetaflowNotFound:
        run = None
    if run is None:
        raise RecsysError(f"there is no run of {flow} yet; `make run` makes the first one")
    return run


def last_landing(dataset: str) -> tuple[str, Settings]:
    """Id of the raw snapshot of the last TrainFlow on a dataset, and that run's settings."""
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
        return data.raw_id, resolve(data.config, data.dataset, data.as_of, data.sample, data.inputs)
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


def summarise(path: str, cpu_seconds: float, console: Console) -> None:
    """Prints what a finished TrainFlow found, chose, made and cost."""
    namespace(None)
    run = Run(path)
    data = run["publish"].task.data
    settings = resolve(data.config, data.dataset, data.as_of, data.sample, data.inputs)
    built, counts = data.built, data.built.counts
    console.print(
        f"\n[bold]{settings.name}[/bold]  {counts['events']:,} events of {counts['users']:,} users and {counts['items']:,} items,"
        f" {counts['first_day']} to {counts['last_day']}"
    )
    console.print(f"quarantine  {built.quarantine}")
    for verdict in data.evidence.families["raw"]:
        if verdict.name == "ignored_columns":
            console.print(verdict.message, markup=False, soft_wrap=True)
    console.print(f"features    {built.id} {'reused' if built.reused else 'built'}")
    for line in _gaps(data.choice, settings):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"winner      [bold]{data.choice.winner}[/bold], model {data.choice.model_id}")
    for protocol in PROTOCOLS:
        console.print(_metrics(data, protocol, settings))
    console.print(_rules(data, settings), soft_wrap=True)
    _print_verdicts(data.evidence, console)
    console.print(_costs(run, cpu_seconds))
    place = f"the canary of {data.canary * 100:g}% of the users" if data.canary >= 0 else "live"
    console.print(f"release     [bold]{data.release_id}[/bold] is {place}, content {data.evidence.content}")
    given = {"DATASET": data.dataset, "SAMPLE": "" if data.sample == 1 else f"{data.sample:g}", "STORE": data.root}
    same = "".join(f" {name}={shlex.quote(value)}" for name, value in given.items() if value)
    console.print(f"look next   make card · make releases{same} · make export TO=lists.parquet{same}", markup=False, soft_wrap=True)


def tell_lists(path: str, cpu_seconds: float, console: Console) -> None:
    """Prints what a finished RecommendFlow made and cost."""
    namespace(None)
    data = Run(path)["publish"].task.data
    settings = resolve(data.config, data.dataset, data.as_of, data.sample, data.inputs)
    counts, model = data.built.counts, data.champion.model_id
    console.print(f"\n[bold]{settings.name}[/bold]  {counts['events']:,} events up to {counts['last_day']}, lists of model {model}")
    console.print(_rules(data, settings), soft_wrap=True)
    _print_verdicts(data.evidence, console)
    console.print(_costs(Run(path), cpu_seconds))
    other = "" if data.live_id == data.release_id else f"; it knows as many days as {data.release_id}, which this run made"
    console.print(f"release     [bold]{data.live_id}[/bold] is live{other}")


def tell_monitoring(path: str, cpu_seconds: float, console: Console) -> None:
    """Prints what a finished MonitorFlow found: days, then what was realised and promised, then verdicts."""
    namespace(None)
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
    for verdict in report.verdicts:
        console.print(
            f"{'passed' if verdict.passed else 'FAILED'}  [{verdict.name}] {verdict.message}", markup=False, soft_wrap=True
        )
    console.print(f"kept as {report.name} in the store; nothing was moved; {cpu_seconds:.1f} CPU seconds")


def _gaps(choice: Choice, settings: Settings) -> Iterator[str]:
    """What the data are too few for: features, recommenders, windows of selection."""
    for name, columns in choice.left_out.items():
        yield f"left out    of {name}, {len(columns)} features with too few values: {', '.join(columns)}"
    for reason in choice.skipped.values():
        yield f"skipped     {reason}"
    windows = min(len(found[settings.protocol]) - 1 for found in choice.evaluations.values())
    if windows < (wanted := settings.evaluation.selection_windows):
        chosen = "" if windows else "; the simplest recommender is taken"
        why = f"the others have too few days of data before them, with horizon_days = {settings.dataset.horizon_days}"
        yield f"selection   on {windows} of {wanted} windows (evaluation.selection_windows): {why}{chosen}"


def _metrics(data: Any, protocol: str, settings: Settings) -> Table | str:
    holdout = {name: windows[protocol][0] for name, windows in data.choice.evaluations.items()}
    title = f"holdout, {caption(protocol, holdout[data.choice.winner], settings)}"
    if not len(holdout[data.choice.winner].users):
        return title
    table = Table(title=title, box=None, title_justify="left", title_style="", padding=(0, 2, 0, 0))
    best = data.oracle.get(protocol)
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


def _rules(data: Any, settings: Settings) -> str:
    """What was kept out of the released lists, rule by rule."""
    store = open_store(data.root or settings.store.root, settings.name, ROOT, endpoint=settings.store.endpoint)
    counts = about(store.load("release", data.release_id))["rules"]
    told = [
        f"{protocol}: {', '.join(f'{name} {count:,}' for name, count in found.items() if count) or 'nothing'}"
        for protocol, found in counts.items()
    ]
    return f"rules       kept out of lists, {'; '.join(told)}"


def _print_verdicts(evidence: Evidence, console: Console) -> None:
    failed = [verdict for verdict in evidence.verdicts if not verdict.passed]
    console.print(
        f"verdicts    {len(evidence.verdicts) - len(failed)} passed, {len(failed)} warned, of {', '.join(evidence.families)}"
    )
    if silent := [name for name in FAMILIES if name not in evidence.families]:
        console.print(f"not run     {', '.join(silent)}: `make audit` runs them")
    for verdict in failed:
        console.print(f"  warning   [{verdict.name}] {verdict.message}", markup=False)


def _costs(run: Run, cpu_seconds: float) -> Table:
    """CPU seconds of each step; orchestration is Metaflow, imports and dbt's own start."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("CPU seconds", "total", "orchestration", "peak MB"):
        table.add_column(column, justify="left" if column == "CPU seconds" else "right")
    total = orchestration = 0.0
    for step in reversed(list(run)):
        costs = [task["cost"].data for task in step]
        step_total, step_orchestration = (sum(cost[part] for cost in costs) for part in ("total", "orchestration"))
        total, orchestration = total + step_total, orchestration + step_orchestration
        table.add_row(step.id, f"{step_total:.1f}", f"{step_orchestration:.1f}", str(max(cost["memory_mb"] for cost in costs)))
    between = max(cpu_seconds - total, 0)
    table.add_row("between steps", f"{between:.1f}", f"{between:.1f}", "")
    table.add_row("all", f"{cpu_seconds:.1f}", f"{orchestration + between:.1f}", "", style="bold")
    return table
