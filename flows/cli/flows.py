"""Verbs that run flows on this machine and show their progress."""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any

import reporting
from cli.production import CODE, PRODUCTION, ROOT, code_version, describe_store, is_production, require_committed, store_branch
from cli.progress import Progress, last_words
from cli.terminal import console, say
from cli.variables import Place, Range, note, one_of, option, read_config
from recsys import RecsysError
from recsys.settings import read_operations
from recsys.store import END, Store, lease, remedy, started, with_remedy

FLOWS = {
    f"{name.title()}Flow": [sys.executable, str(CODE / f"{name}_flow.py"), "--no-pylint"]
    for name in ("train", "recommend", "monitor", "tune")
}
PUBLISHING = ("TrainFlow", "RecommendFlow")  # run one at a time per store, because two runs would replace the same champion
RESUMED = ("TrainFlow", "RecommendFlow", "MonitorFlow")

Canary = Annotated[
    float | None,
    option("publish the release as a canary for this share of the users, such as 0.05", read=Range(0, 1), shown="SHARE"),
]
On = Annotated[str | None, option("run the steps on AWS Batch, by [cloud] of config.toml", read=one_of(["batch"]), shown="batch")]
Unattended = Annotated[bool, option("repeat failed steps and send alerts, as on a schedule", "--unattended")]


def run(place: Place, canary: Canary = None, on: On = None, unattended: Unattended = False) -> None:
    """Trains recommenders on raw events, checks the best one's lists and publishes them as a release.

    Example: make run DATASET=events EVENTS=data/events.csv
    """
    train(place, canary, on, unattended)


def audit(place: Place, canary: Canary = None, on: On = None, unattended: Unattended = False) -> None:
    """As run, with the costly checks too: other seeds, lost data, leaks from the future, behavioural tests.

    Example: make audit DATASET=shop
    """
    train(place, canary, on, unattended, "--audit", "True")


def train(place: Place, canary: float | None, on: str | None, unattended: bool, *more: str) -> None:
    share = "" if canary is None else str(canary)
    follow(place, "TrainFlow", "run", *parameters(place, on, unattended), "--canary", share, *more)


def recommend(place: Place, on: On = None, unattended: Unattended = False) -> None:
    """Makes new lists with the live model from the newest events, checks them and publishes them. Trains nothing.

    Example: make recommend DATASET=shop
    """
    follow(place, "RecommendFlow", "run", *parameters(place, on, unattended))


def monitor(place: Place, on: On = None, unattended: Unattended = False) -> None:
    """Scores recently served lists against later target events.

    Example: make monitor DATASET=shop
    """
    follow(place, "MonitorFlow", "run", *parameters(place, on, unattended))


def parameters(place: Place, on: str | None, unattended: bool) -> list[str]:
    """The parameters that all flows have, and Metaflow's options for steps on Batch and for retries. Raises RecsysError for a wrong
    setting."""
    retries = read_operations(
        read_config()
    ).unattended.retries  # read even if unused, to check these settings before the flow starts
    values = {
        "dataset": place.dataset,
        "as_of": str(place.as_of or ""),
        "sample": str(place.checked_settings().sample),
        "inputs": json.dumps(place.inputs),
        "root": place.store,
    }
    if on:
        from cli import cloud

        os.environ.update(cloud.environment(cloud.read(read_config(), "step-functions")))
    os.environ["UNATTENDED"] = "1" * unattended  # for the flow's alerts
    decorators = ["batch"] * bool(on) + [f"retry:times={retries}"] * unattended
    options = [part for name, value in values.items() for part in (f"--{name}", value)]
    return options + [part for decorator in decorators for part in ("--with", decorator)]


def resume(
    place: Place, flow: Annotated[str, option("the flow", read=one_of(RESUMED), shown="|".join(RESUMED))] = "TrainFlow"
) -> None:
    """Continues the last run of a flow at the step that failed, with that run's settings.

    Example: make resume FLOW=TrainFlow
    """
    run = reporting.latest_run(flow)
    require_same_store(place, run)
    follow(place, flow, "resume", "--origin-run-id", run.id, kept=reporting.store_of(run, reporting.settings_of(run)))


def require_same_store(place: Place, run: Any) -> None:
    """Raises RecsysError unless this command may continue a run: it must use the store of that run and, for production, committed
    code. A new run checks its code itself."""
    root, origin = reporting.place_of(run)
    if store_branch(origin, root) != store_branch(place.branch_name, root):
        advice = "pass PRODUCTION=1" if origin == PRODUCTION else "leave out PRODUCTION=1 and BRANCH, or start a new run"
        raise RecsysError(f"{run.pathspec} uses the store {describe_store(root, origin)}, and this command another one; {advice}")
    note(root, origin)
    if is_production(root, origin):
        require_committed(code_version())


def tune(
    place: Place,
    recommender: Annotated[str, option("a section of [tune.*] in config.toml; by default, the first", shown="NAME")] = "",
    on: On = None,
    unattended: Unattended = False,
) -> None:
    """Tries one parameter change at a time, adds the results to tuning.md and prints what to write in config.toml.

    Example: make tune RECOMMENDER=two_stage
    """
    options = [*parameters(place, on, unattended), "--recommender", recommender]
    path = follow(place, "TuneFlow", "run", *options, "--max-workers", "1")  # one task at a time, because CPU seconds are compared
    log, advice = reporting.learned(path)
    with (ROOT / "tuning.md").open("a") as file:
        file.writelines(f"{line}\n" for line in log)
    for line in (*log, *advice):
        say(line)


def follow(place: Place, flow: str, *arguments: str, kept: Store | None = None) -> str:
    """Runs a flow, prints the start and end of each step and a summary, and returns the run's path in Metaflow.

    kept: the store that the run uses, if it is not the one of `place`. Raises RecsysError if the run fails; if it was refused, its
    summary is printed first.
    """
    if place.branch:
        raise RecsysError(
            f'BRANCH "{place.branch}" is for deployed flows, and this is a run on this machine; leave it out, or use `make trigger`'
        )
    kept = kept or place.open()[1]
    kept.current()  # refuses a damaged pointer before the run starts
    progress = Progress(flow, console)
    with tempfile.TemporaryDirectory() as folder, lease(kept, flow) if flow in PUBLISHING else nullcontext():
        id_file = Path(folder) / "run_id"
        command = [*FLOWS[flow], *place.flow_options, *arguments, "--run-id-file", str(id_file)]
        lines = []
        try:
            with started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    progress.read(line)
                    lines.append(line)
                failed = process.wait() != 0
        except BaseException as stopped:
            if flow in RESUMED and progress.has_done:
                stopped.add_note(f"`make resume{'' if flow == RESUMED[0] else f' FLOW={flow}'}` continues it")
            raise
        finally:
            kept.backend.sweep()
        path = f"{flow}/{id_file.read_text().strip()}" if id_file.exists() else ""
    usage, reason = resource.getrusage(resource.RUSAGE_CHILDREN), reporting.refusal(path) if failed else ""
    if flow in reporting.TOLD and (reason or not failed):
        unreadable = (RecsysError, OSError) if failed else ()  # an error of the summary must not hide the refusal
        with suppress(*unreadable):
            reporting.TOLD[flow](path, usage.ru_utime + usage.ru_stime, console)
    if failed:
        raise RecsysError(reason or broken_down(lines))
    return path


def broken_down(lines: list[str]) -> str:
    """The reason why a flow failed without a refusal. Prints the end of its output if no line of it gives the reason."""
    step, output = last_words(lines)
    is_error = "Traceback" in " ".join(output)
    errors = [line for line in output if not is_error or re.match(r"[\w.]*(Error|Exception)\b", line)]
    if fault := next((line for line in reversed(errors) if remedy(line)), ""):
        return f"{step}: {fault if END in fault else with_remedy(fault)}"
    if not output:
        return f"{step}: it ended without output, so it was probably killed; maybe {remedy('out of memory')}"
    for line in lines[-40:]:
        say(line.rstrip())
    return f"{step} failed; the end of its output is above"


def step(place: Place, step: Annotated[str, option("a step of flows/train_flow.py, such as recommend", shown="NAME")]) -> None:
    """Runs one step again on the artifacts of the last run (Metaflow spin). Only the step `publish` changes what is live.

    Example: make step STEP=recommend
    """
    require_same_store(place, reporting.latest_run())
    with started([*FLOWS["TrainFlow"], *place.flow_options, "spin", step], cwd=ROOT) as process:
        failed = process.wait() != 0
    if failed:
        raise RecsysError(f"step {step} failed; its output is above")


def card() -> None:
    """Writes the card of the last run's step `validate`, with all metrics, to data/card.html.

    Example: make card
    """
    target, run_id = ROOT / "data" / "card.html", reporting.latest_run().id
    if subprocess.run([*FLOWS["TrainFlow"], "--quiet", "card", "get", f"{run_id}/validate", str(target)], cwd=ROOT).returncode:
        raise RecsysError("the last run made no card, because it ended before the step `validate`; run again with `make run`")
    console.print(f"written to {target.relative_to(ROOT)}")
