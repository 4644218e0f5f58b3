"""Verbs that run flows on this machine, and follow them to their end."""

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

from cli.production import CODE, PRODUCTION, ROOT, code_version, describe_store, is_production, require_committed, store_branch
from cli.progress import Progress, last_words
from cli.terminal import console, say
from cli.variables import Place, Range, note, one_of, option, read_config
from recsys import RecsysError
from recsys.settings import read as read_operations
from recsys.store import END, Store, lease, remedy, started, with_remedy

FLOWS = {
    f"{name.title()}Flow": [sys.executable, str(CODE / f"{name}_flow.py"), "--no-pylint"]
    for name in ("train", "recommend", "monitor", "tune")
}
PUBLISHING = ("TrainFlow", "RecommendFlow")  # two runs of one would publish against the same champion
RESUMED = ("TrainFlow", "RecommendFlow", "MonitorFlow")

Canary = Annotated[
    float | None,
    option("publish the release as a canary for this share of the users, instead of to all", read=Range(0, 1), shown="SHARE"),
]
On = Annotated[str | None, option("run the steps on AWS Batch, by [cloud] of config.toml", read=one_of(["batch"]), shown="batch")]
Unattended = Annotated[bool, option("repeat failed steps and send alerts, as on a schedule", "--unattended")]


def run(place: Place, canary: Canary = None, on: On = None, unattended: Unattended = False) -> None:
    """Trains recommenders on raw events, checks the best one's lists and publishes them as a release."""
    train(place, canary, on, unattended)


def audit(place: Place, canary: Canary = None, on: On = None, unattended: Unattended = False) -> None:
    """As run, with the costly checks: other seeds, bad days, leaks, behaviour."""
    train(place, canary, on, unattended, "--audit", "True")


def train(place: Place, canary: float | None, on: str | None, unattended: bool, *more: str) -> None:
    share = -1.0 if canary is None else canary  # as TrainFlow's parameter has it
    follow(place, "TrainFlow", "run", *parameters(place, on, unattended), "--canary", str(share), *more)


def recommend(place: Place, on: On = None, unattended: Unattended = False) -> None:
    """Publishes new lists by the live model, as of today."""
    follow(place, "RecommendFlow", "run", *parameters(place, on, unattended))


def monitor(place: Place, on: On = None, unattended: Unattended = False) -> None:
    """Scores recently served lists against later events of the target."""
    follow(place, "MonitorFlow", "run", *parameters(place, on, unattended))


def parameters(place: Place, on: str | None, unattended: bool) -> list[str]:
    """Parameters that every flow takes, checked, and options that send its steps to Batch or repeat those that fail."""
    retries = read_operations(read_config()).unattended.retries  # read in any case: a wrong setting is told before the flow starts
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
    given = [part for name, value in values.items() for part in (f"--{name}", value)]
    return given + [part for decorator in decorators for part in ("--with", decorator)]


def resume(
    place: Place, flow: Annotated[str, option("the flow", read=one_of(RESUMED), shown="|".join(RESUMED))] = "TrainFlow"
) -> None:
    """Goes on with the last run of a flow where it failed, under that run's own settings."""
    from reporting import latest_run, settings_of, store_of

    run = latest_run(flow)
    require_same_store(place, run)
    follow(place, flow, "resume", "--origin-run-id", run.id, kept=store_of(run, settings_of(run)))


def require_same_store(place: Place, run: Any) -> None:
    """Raises unless this command may go on with a run: in the store that the run works in and, for production, by committed code.
    (A new run checks its code itself when it starts.)"""
    from reporting import place_of

    root, origin = place_of(run)
    if store_branch(origin, root) != store_branch(place.branch_name, root):
        mend = "pass PRODUCTION=1" if origin == PRODUCTION else "leave out PRODUCTION=1 and BRANCH, or run anew"
        raise RecsysError(f"{run.pathspec} works in the store {describe_store(root, origin)}, and this command in another; {mend}")
    note(root, origin)
    if is_production(root, origin):
        require_committed(code_version())


def tune(
    place: Place,
    recommender: Annotated[str, option("a section of [tune.*] in config.toml; by default, the first", shown="NAME")] = "",
    on: On = None,
    unattended: Unattended = False,
) -> None:
    """Tries one change at a time against config.toml, adds the results to tuning.md and prints what to write in config.toml."""
    from reporting import learned

    given = [*parameters(place, on, unattended), "--recommender", recommender]
    path = follow(place, "TuneFlow", "run", *given, "--max-workers", "1")  # one task at a time, for their CPU seconds are compared
    log, advice = learned(path)
    with (ROOT / "tuning.md").open("a") as file:
        file.writelines(f"{line}\n" for line in log)
    for line in (*log, *advice):
        say(line)


def follow(place: Place, flow: str, *arguments: str, kept: Store | None = None) -> str:
    """Runs a flow, prints each step's start and end, and then what the run found. Returns the run's path in Metaflow. A refused
    run is summed up too, before its refusal is raised. `kept`: the store that the run works in, if that is not the place's."""
    from reporting import TOLD, refusal

    if place.branch:
        raise RecsysError(
            f'BRANCH "{place.branch}" is not where runs of this machine publish; pass it to `make trigger`, or leave it out'
        )
    kept = kept or place.open_store()
    kept.current()  # a damaged pointer is refused before the run costs anything
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
        finally:
            kept.backend.sweep()
        path = f"{flow}/{id_file.read_text().strip()}" if id_file.exists() else ""
    usage, reason = resource.getrusage(resource.RUSAGE_CHILDREN), refusal(path) if failed else ""
    if flow in TOLD and (reason or not failed):
        unreadable = (RecsysError, OSError) if failed else ()  # an error of the summary must not hide the refusal
        with suppress(*unreadable):
            TOLD[flow](path, usage.ru_utime + usage.ru_stime, console)
    if failed:
        raise RecsysError(reason or broken_down(lines))
    return path


def broken_down(lines: list[str]) -> str:
    """Why a flow ended without a refusal that could be read. Prints the end of its output, unless one line of it says all."""
    step, said = last_words(lines)
    is_error = "Traceback" in " ".join(said)
    errors = [words for words in said if not is_error or re.match(r"[\w.]*(Error|Exception)\b", words)]
    if fault := next((words for words in reversed(errors) if remedy(words)), ""):
        return f"{step}: {fault if END in fault else with_remedy(fault)}"
    if not said:
        return f"{step}: it ended without a word, as what is killed does; maybe {remedy('out of memory')}"
    for line in lines[-40:]:
        say(line.rstrip())
    return f"{step} broke down; its last words are above"


def step(place: Place, step: Annotated[str, option("such as recommend: a step of flows/train_flow.py", shown="NAME")]) -> None:
    """Runs one step again on the artifacts of the last run (Metaflow spin). Only the step `publish` changes what is live."""
    from reporting import latest_run

    require_same_store(place, latest_run())
    with started([*FLOWS["TrainFlow"], *place.flow_options, "spin", step], cwd=ROOT) as process:
        failed = process.wait() != 0
    if failed:
        raise RecsysError(f"step {step} failed; its own words are above")


def card() -> None:
    """Writes the card of the last run's `validate` to data/card.html."""
    from reporting import latest_run

    target, run_id = ROOT / "data" / "card.html", latest_run().id
    if subprocess.run([*FLOWS["TrainFlow"], "--quiet", "card", "get", f"{run_id}/validate", str(target)], cwd=ROOT).returncode:
        raise RecsysError("the last run made no card; it ended before `validate`")
    console.print(f"written to {target.relative_to(ROOT)}")
