"""What `make` calls: every verb but the tests. Takes the variables of make's command line as NAME=value and prints for people."""

import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

import cloud
import variables
from cloud import Target
from production import (
    PRODUCTION,
    code_version,
    describe_store,
    is_production,
    is_shared,
    require_committed,
    require_committed_release,
    store_branch,
)
from recsys import RecsysError, cases, expected
from recsys.faults import END, describe_error, remedy, with_remedy
from recsys.leases import lease
from recsys.processes import started
from recsys.settings import Settings, parse, parse_day, read_operations, resolve
from recsys.store import Store, open_store
from scratch import scratch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
GIVEN = dict(part.split("=", 1) for part in sys.argv[1:] if "=" in part)
CASES = ROOT / "cases.jsonl"
EXPECTED = ROOT / "expected.jsonl"
SCHEMA = ROOT / "config.schema.json"
FLOWS = {
    f"{name.title()}Flow": [sys.executable, str(HERE / f"{name}_flow.py"), "--no-pylint"]
    for name in ("train", "recommend", "monitor", "tune")
}
PUBLISHING = ("TrainFlow", "RecommendFlow")  # two runs of one would publish against the same champion
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
opened: list[str] = []  # the shared store that this command works in, in words
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def dial(name: str) -> str:
    return GIVEN.get(name, "").strip()


def number(name: str, usual: float) -> float:
    return float(dial(name) or usual)


def switched(name: str) -> bool:
    return variables.is_on(dial(name))


def now() -> str:
    """What a move of CURRENT is dated by."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def settings() -> Settings:
    """Settings of the dataset that make's variables name."""
    return resolve(read_config(), dial("DATASET"), dial("AS_OF"), number("SAMPLE", 1), inputs())


def checked_settings() -> Settings:
    """The same, once all of config.toml that a flow depends on was checked."""
    from recsys.pipeline import check_settings

    chosen = settings()
    check_settings(chosen)
    to = read_operations(read_config()).alerts.to
    if to != "stdout" and (ROOT / to).is_dir():
        raise RecsysError(f'config: alerts.to is "{to}", which is a directory; name a file in it')
    return chosen


def read_config() -> dict[str, Any]:
    known = cases.parse(CASES.read_text()) if CASES.exists() else []
    changes = expected.parse(EXPECTED.read_text()) if EXPECTED.exists() else []
    return parse((ROOT / "config.toml").read_text()) | {"cases": known, "expected": changes}


def point_metaflow() -> None:
    """Tells Metaflow the address of an S3-compatible store, for its own files too; it passes it on to containers."""
    if endpoint := read_config().get("store", {}).get("endpoint"):
        os.environ["METAFLOW_S3_ENDPOINT_URL"] = str(endpoint)


def of_store() -> str:
    """The end of an error: the shared store that it is about."""
    return "".join(f"; store: {words}" for words in opened)


def inputs() -> dict[str, str]:
    return {name.lower(): dial(name) for name in ("RAW", "EVENTS", "ITEMS", "USERS") if dial(name)}


def branch() -> str:
    """Which branch this command works in, as Metaflow names it: `prod` by PRODUCTION=1, `test.x` by BRANCH=x, or the user's own."""
    if not switched("PRODUCTION"):
        return cloud.branch_name(dial("BRANCH")) or f"user.{user()}"
    if dial("BRANCH"):
        raise RecsysError(f'PRODUCTION=1 and BRANCH "{dial("BRANCH")}" are two places; pass one of them')
    return PRODUCTION


def store(chosen: Settings) -> Store:
    """The store that this command works in. It is production's by PRODUCTION=1 only, unless it is a directory on this machine."""
    kept = open_store(root(), chosen.name, ROOT, store_branch(branch(), root()), chosen.store.endpoint)
    note(root(), branch())
    return kept


def root() -> str:
    """Where stores lie."""
    return dial("STORE") or read_config()["store"]["root"]


def note(root: str, branch: str) -> None:
    """Notes a shared store, so that the command's last line or its error names it."""
    if is_shared(root):
        opened[:] = [describe_store(root, branch)]


def run() -> None:
    """Runs TrainFlow and sums it up."""
    from summary import summarise

    follow("TrainFlow", "run", *parameters(), *tried(), tell=summarise)


def audit() -> None:
    """The same with the costly checks."""
    from summary import summarise

    follow("TrainFlow", "run", *parameters(), *tried(), "--audit", "True", tell=summarise)


def recommend() -> None:
    """Runs RecommendFlow and tells what it made."""
    from summary import tell_lists

    follow("RecommendFlow", "run", *parameters(), tell=tell_lists)


def monitor() -> None:
    """Runs MonitorFlow and prints its report."""
    from summary import tell_monitoring

    follow("MonitorFlow", "run", *parameters(), tell=tell_monitoring)


def parameters() -> list[str]:
    """make's variables, checked, as the parameters that every flow takes."""
    sample = checked_settings().sample
    values = {"dataset": dial("DATASET"), "as_of": dial("AS_OF"), "sample": str(sample), "inputs": json.dumps(inputs())}
    values["root"] = dial("STORE")
    return [part for name, value in values.items() for part in (f"--{name}", value)] + where()


def where() -> list[str]:
    """Options that send steps to where [cloud] says (ON=batch), or repeat those that fail where nobody looks (UNATTENDED=1)."""
    on = dial("ON")
    retries = read_operations(read_config()).unattended.retries  # read in any case: a wrong dial is told before the flow starts
    if on not in ("", "batch"):
        raise RecsysError(f'ON "{on}" is no place to run; pass ON=batch, or nothing for this machine')
    if on:
        os.environ.update(cloud.environment(cloud.read(read_config(), "step-functions")))
    os.environ["UNATTENDED"] = "1" * switched("UNATTENDED")  # for the flow's alerts
    options = ["batch"] if on else []
    options += [f"retry:times={retries}"] if switched("UNATTENDED") else []
    return [part for option in options for part in ("--with", option)]


def cron() -> None:
    """Prints a schedule for this machine."""
    from cron import crontab, systemd

    checked_settings()  # refuses a wrong value before it is written down
    dials = {name: dial(name) for name in ("DATASET", "STORE", *(name.upper() for name in inputs())) if dial(name)}
    if switched("PRODUCTION") or is_shared(root()):
        dials["PRODUCTION"] = "1"  # what runs on a schedule is production
    for line in (systemd if switched("SYSTEMD") else crontab)(ROOT, read_operations(read_config()), dials):
        console.out(line, highlight=False)


def tried() -> list[str]:
    """The share of the users who try the release as a canary, if it shall not go live."""
    return ["--canary", str(number("CANARY", -1))]


def resume() -> None:
    """Goes on with the last run of a flow where it failed, under that run's own settings."""
    from summary import latest_run, settings_of, store_of, summarise, tell_lists, tell_monitoring

    told = {"TrainFlow": summarise, "RecommendFlow": tell_lists, "MonitorFlow": tell_monitoring}
    flow = dial("FLOW") or "TrainFlow"
    if flow not in told:
        raise RecsysError(f'FLOW "{flow}" cannot be resumed; pass one of {", ".join(told)}')
    run = latest_run(flow)
    require_same_store(run)
    follow(flow, "resume", "--origin-run-id", run.id, tell=told[flow], kept=store_of(run, settings_of(run)))


def require_same_store(run: Any) -> None:
    """Raises unless this command may go on with a run: in the store that the run works in and, for production, by committed code.
    (A new run checks its code itself when it starts.)"""
    from summary import place_of

    root, origin = place_of(run)
    if store_branch(origin, root) != store_branch(branch(), root):
        mend = "pass PRODUCTION=1" if origin == PRODUCTION else "leave out PRODUCTION=1 and BRANCH, or run anew"
        raise RecsysError(f"{run.pathspec} works in the store {describe_store(root, origin)}, and this command in another; {mend}")
    note(root, origin)
    if is_production(root, origin):
        require_committed(code_version())


def tune() -> None:
    """Tries one change at a time, adds what was learned to tuning.md and prints what to write in config.toml. One task at a
    time, for their CPU seconds are compared."""
    from summary import learned

    path = follow("TuneFlow", "run", *parameters(), "--recommender", dial("RECOMMENDER"), "--max-workers", "1")
    log, advice = learned(path)
    with (ROOT / "tuning.md").open("a") as file:
        file.writelines(f"{line}\n" for line in log)
    for line in (*log, *advice):
        console.print(line, markup=False, soft_wrap=True)


def follow(flow: str, *arguments: str, tell: Callable[[str, float, Console], None] | None = None, kept: Store | None = None) -> str:
    """Runs a flow, prints each step's start and end, and then what the run found, by `tell`. Returns the run's path in Metaflow.
    A refused run is summed up too, before its refusal is raised. `kept`: the store that the run works in, if that is not the one of
    make's variables."""
    from progress import Progress
    from summary import refusal

    if elsewhere := dial("BRANCH"):
        raise RecsysError(
            f'BRANCH "{elsewhere}" is not where runs of this machine publish; pass it to `make trigger`, or leave it out'
        )
    kept = kept or store(settings())
    kept.current()  # a damaged pointer is refused before the run costs anything
    progress = Progress(flow, console)
    with tempfile.TemporaryDirectory() as folder, lease(kept, flow) if flow in PUBLISHING else nullcontext():
        id_file = Path(folder) / "run_id"
        command = [*FLOWS[flow], *production(), *arguments, "--run-id-file", str(id_file)]
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
    if tell and (reason or not failed):
        unreadable = (RecsysError, OSError) if failed else ()  # an error of the summary must not hide the refusal
        with suppress(*unreadable):
            tell(path, usage.ru_utime + usage.ru_stime, console)
    if failed:
        raise RecsysError(reason or broken_down(lines))
    return path


def broken_down(lines: list[str]) -> str:
    """Why a flow ended without a refusal that could be read. Prints the end of its output, unless one line of it says all."""
    from progress import last_words

    step, said = last_words(lines)
    is_error = "Traceback" in " ".join(said)
    errors = [words for words in said if not is_error or re.match(r"[\w.]*(Error|Exception)\b", words)]
    if fault := next((words for words in reversed(errors) if remedy(words)), ""):
        return f"{step}: {fault if END in fault else with_remedy(fault)}"
    if not said:
        return f"{step}: it ended without a word, as what is killed does; maybe {remedy('out of memory')}"
    for line in lines[-40:]:
        console.print(line.rstrip(), markup=False, soft_wrap=True)
    return f"{step} broke down; its last words are above"


def production() -> list[str]:
    """What makes a flow's run one of production; without it, it is one of the user's own branch."""
    return ["--production"] if branch() == PRODUCTION else []


def step() -> None:
    """Runs one step again on the artifacts of the last run (Metaflow spin); CURRENT moves only if the step is `publish`."""
    name = dial("STEP")
    if not name:
        raise RecsysError("STEP is not given; pass STEP=recommend, or another step of flows/train_flow.py")
    from summary import latest_run

    require_same_store(latest_run())
    with started([*FLOWS["TrainFlow"], *production(), "spin", name], cwd=ROOT) as process:
        failed = process.wait() != 0
    if failed:
        raise RecsysError(f"step {name} failed; its own words are above")


def card() -> None:
    """Writes the card of the last run's `select` as one HTML file."""
    from summary import latest_run

    target, run_id = ROOT / "data" / "card.html", latest_run().id
    if subprocess.run([*FLOWS["TrainFlow"], "--quiet", "card", "get", f"{run_id}/select", str(target)], cwd=ROOT).returncode:
        raise RecsysError("the last run made no card; it ended before `select`")
    console.print(f"written to {target.relative_to(ROOT)}")


def releases() -> None:
    """Every release that is kept, newest first, and who points at it."""
    from rich.table import Table

    from recsys.evaluation import PROTOCOLS
    from recsys.lifecycle import listed

    chosen = settings()
    found, metric = listed(store(chosen), chosen), f"ndcg@{chosen.evaluation.k}"
    if not found:
        raise no_release(chosen)
    names, today = [f"{metric} {name}" for name in PROTOCOLS], datetime.now(UTC).date()
    table = Table("", "release", "data", "days old", "winner", *names, box=None, padding=(0, 2, 0, 0))
    for one in found:
        missing = "no users" if one.metrics else "damaged"
        means = [f"{one.metrics[name]:.4f}" if name in one.metrics else missing for name in PROTOCOLS]
        age = str((today - one.as_of).days) if one.as_of else "damaged"
        table.add_row(", ".join(one.roles), one.id, " to ".join(one.days), age, one.recommender, *means)
    console.print(table)


def verify() -> None:
    """Says whether a release could be served, by asking it as the service does."""
    from recsys.verifying import verify

    chosen = settings()
    kept, release = store(chosen), release_of(chosen)
    evidence = verify(kept, release)
    console.print(f"release {release} is whole and answers; {len(evidence.verdicts)} verdicts, none blocks")
    tell_faults(kept)


def tell_faults(kept: Store) -> None:
    """Prints what is damaged in a store besides the files of its snapshots, a line each."""
    for fault in kept.faults():
        console.print(f"damaged: {fault}", markup=False, soft_wrap=True)


def rollback() -> None:
    """Moves CURRENT back."""
    from recsys.lifecycle import rollback

    kept = store(settings())
    left, release = kept.current(), rollback(kept, dial("RELEASE"), at=now())
    console.print(f"release {release} is live; rolled back from {left}, which stays where it is")


def pin() -> None:
    """Keeps a release from being freed, or no longer."""
    release, on = dial("RELEASE"), not switched("OFF")
    if not release:
        raise RecsysError("RELEASE is not given; pass RELEASE=, one of `make releases`")
    store(settings()).pin(release, on)
    console.print(f"release {release} is {'pinned' if on else 'no longer pinned'}")


def canary() -> None:
    """Tries a release beside the live one, or ends that."""
    from recsys.lifecycle import try_out

    kept, release = store(settings()), dial("RELEASE")
    if switched("OFF"):
        kept.point_canary(None, kept.current())
        console.print("there is no canary")
        return
    if not release or not dial("SHARE"):
        raise RecsysError("RELEASE or SHARE is not given; pass RELEASE=, one of `make releases`, and SHARE=0.05, or OFF=1")
    require_release_of_commit(kept, release)
    try_out(kept, release, number("SHARE", 0))
    console.print(f"release {release} is the canary of {number('SHARE', 0) * 100:g}% of the users")


def promote() -> None:
    """Makes the canary live."""
    from recsys.checks import required
    from recsys.lifecycle import promote

    chosen = settings()
    kept = store(chosen)
    if tried := kept.canary():
        require_release_of_commit(kept, tried.release)
    release = promote(kept, required(chosen.evidence.audit), at=now())
    console.print(f"release {release} is live; there is no canary")


def require_release_of_commit(kept: Store, release: str) -> None:
    """Raises if production's users would see a release of code that no commit holds. (A rollback may show one again.)"""
    manifest = kept.find("release", release)
    if manifest and is_production(root(), branch()):
        require_committed_release(release, manifest.made_from["code"])


def gc() -> None:
    """Tells what nobody needs, and frees it if told so."""
    from recsys.retention import free, unneeded

    sure, how, kept = switched("YES"), (int(number("KEEP", 3)), number("GRACE_HOURS", 24)), store(settings())
    found = (free if sure else unneeded)(kept, *how)
    if not found and (damaged := kept.faults()):
        raise RecsysError(f"nothing is freed while the store is damaged: {'; '.join(damaged)}")
    for one in found:
        console.print(f"{one.kind:<8}  {one.id:<18}  {one.bytes / 1e6:10,.1f} MB")
    total = f"{sum(one.bytes for one in found) / 1e6:,.1f} MB in {len(found)} snapshots"
    console.print(f"freed {total}" if sure else f"would free {total}" + ("; pass YES=1 to do it" if found else ""))


def export() -> None:
    from recsys.releases import export

    chosen, target = settings(), dial("TO")
    if not target:
        raise RecsysError("TO is not given; pass TO=path to a .parquet or .csv file")
    release, protocol = release_of(chosen), "novel" if switched("NOVEL") else "allow"
    rows = export(store(chosen).load("release", release), protocol, Path(target), switched("ESCAPE"))
    console.print(f"{rows:,} rows of release {release} ({protocol}) written to {target}")


def check_data() -> None:
    """Says what EVENTS holds, or the data of DATASET, which settings fit it and whether a run will work."""
    from check_data import show
    from recsys.profile import check
    from recsys.proposal import propose_name
    from recsys.sources.base import Access

    config, given = read_config(), inputs()
    name = dial("DATASET") or propose_name(given.get("events", ""), config["datasets"])
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise RecsysError(f'DATASET "{name}" cannot be a name; use letters, digits, _ and - only')
    if name not in config["datasets"] and "events" not in given:
        settings()  # says which datasets there are
        raise RecsysError("EVENTS is not given; pass EVENTS=path to your events, or DATASET= to check one of config.toml")
    queries = ROOT / "dbt_project" / "queries" / name
    found = check(config, name, given, ROOT / "dbt_project", datetime.now(UTC).date(), Access(queries, os.environ))
    show(found, console)
    if found.problems:
        raise RecsysError(f"a run will not work: {'; '.join(found.problems)}")


def quarantine() -> None:
    """Writes the events that the last run rejected, with their reasons, to a file."""
    from recsys.pipeline import write_rejected
    from summary import last_landing

    target = Path(dial("TO") or ROOT / "data" / "quarantine.csv")
    raw_id, chosen, kept = last_landing(dial("DATASET") or read_config()["dataset"])
    rows = write_rejected(kept, raw_id, chosen, ROOT / "dbt_project", target, switched("ESCAPE"))
    console.print(f"{rows:,} rejected events written to {target}; `reason` is the first of `reasons`", soft_wrap=True)


def exposures() -> None:
    """Writes what the service showed on a day to a Parquet file."""
    from recsys.serving.exposures import export

    chosen, target = settings(), dial("TO")
    if not target.endswith(".parquet"):
        raise RecsysError(f'TO is "{target}"; pass TO=path to a .parquet file')
    day = parse_day("DAY", dial("DAY"))
    rows = export(store(chosen), day, Path(target))
    console.print(f"{rows:,} items shown on {day} written to {target}; users are named by keyed hash")


def reproduce() -> None:
    """Makes a release again from its raw snapshot alone and says whether it is the same."""
    from recsys.reproducing import reproduce

    chosen = settings()
    release = release_of(chosen)
    with tempfile.TemporaryDirectory(prefix="reproduced-") as folder:
        scratch = open_store(folder, chosen.name)
        found = reproduce(store(chosen), release, scratch, ROOT / "dbt_project", code_version())
    for line in (*found.differences, *found.other):
        console.print(line, markup=False, soft_wrap=True)
    if not found.identical:
        raise RecsysError(f"release {release} has content {found.content}, made again {found.seen}; what differs is listed above")
    console.print(f"identical content {found.content}")


def diff() -> None:
    """What changed from release A to release B; without them, from the one before to the live one."""
    from rich.table import Table

    from recsys.comparing import diff

    chosen = settings()
    b = dial("B") or release_of(chosen)
    a = dial("A") or next((move["previous"] for move in store(chosen).history() if move["release"] == b), None)
    if not a:
        raise RecsysError(f"no release went live before {b}; pass A= and B=, two of `make releases`")
    table = Table(*("", "", a, b, "change"), box=None, padding=(0, 2, 0, 0))
    for section, rows in diff(store(chosen), a, b, chosen).items():
        for place, row in enumerate(rows or [("same", "", "", "")]):
            table.add_row("" if place else f"[bold]{section}[/bold]", *row)
    console.print(table)


def score() -> None:
    """The ML Test Score by what is found in the live release, in test results and in files."""
    from recsys.proof import Sources
    from score import show

    kept = store(settings())
    show(Sources(ROOT, kept, kept.current()), console)


def explain() -> None:
    """Why USER has the list that a release holds."""
    from explain import show
    from recsys.explaining import explain

    chosen, user = settings(), dial("USER")
    if not user:
        raise RecsysError("USER is not given; pass USER=id, one of those that `make export` shows")
    release, protocol = release_of(chosen), "novel" if switched("NOVEL") else "allow"
    console.print(f"release {release}, {protocol} lists")
    show(explain(store(chosen), release, user, protocol), dial("ITEM"), chosen.evaluation.k, console)


def add_case() -> None:
    """Adds a line to cases.jsonl, if the live release knows its user and items."""
    chosen = settings()
    expect, bar = ([item.strip() for item in dial(name).split(",") if item.strip()] for name in ("EXPECT", "NOT"))
    case = {"dataset": chosen.name, "user": dial("USER"), "expect": expect, "not": bar, "why": dial("WHY")}
    case |= {"severity": dial("SEVERITY") or "warn"}
    cases.refuse_senseless(case, "add-case")
    cases.refuse_unknown(case, store(chosen).load("release", release_of(chosen)))
    with CASES.open("a") as file:
        file.write(json.dumps(case, ensure_ascii=False) + "\n")
    console.print(f"added to {CASES.name}; the next run holds lists against it", markup=False)


def expect() -> None:
    """Notes a change of the data that people expect, in expected.jsonl and in the store, or takes it back. Without values it lists
    those that are known."""
    chosen = settings()
    kept = store(chosen)
    known = expected.known(kept, chosen)
    if switched("LIST") or not any(map(dial, ("FROM", "TO", "KIND", "BECAUSE"))):
        for one in known:
            console.print(f"{one.first} to {one.last}  {one.kind:<9}  {one.because}", markup=False, soft_wrap=True)
        console.print(f"{len(known)} changes of {chosen.dataset_name} are expected")
        return
    off, given = switched("OFF"), {name: dial(name.upper()) for name in expected.FIELDS}
    given |= {"dataset": chosen.dataset_name} | ({"because": "taken back"} if off and not given["because"] else {})
    change = expected.ExpectedChange.read(given, "expect")
    if off and change.key not in {one.key for one in known}:
        raise RecsysError(
            f"no {change.kind} change is expected from {change.first} to {change.last}; `make expect` lists those known"
        )
    expected.record(kept, change, off)
    lines = expected.rewrite(EXPECTED.read_text() if EXPECTED.exists() else "", change, off)
    EXPECTED.write_text(lines)
    checks = ", ".join(check.partition(".")[2] for check in expected.KINDS[change.kind])
    told = "is not expected any more" if off else f"is expected; until it is over, these checks only warn: {checks}"
    console.print(f"{change.kind} change ({change}) {told}; commit {EXPECTED.name}", markup=False, soft_wrap=True)


def no_release(chosen: Settings) -> RecsysError:
    return RecsysError(f"{chosen.name} has no release yet; `make run DATASET={chosen.name}` makes one, or pass another DATASET=")


def release_of(chosen: Settings) -> str:
    """The release that RELEASE names, or the live one."""
    if release := dial("RELEASE") or store(chosen).current():
        return release
    raise no_release(chosen)


def report() -> None:
    """Writes one page about a release, and the documents it links to."""
    from report import write

    chosen, target = settings(), ROOT / "data" / "report.html"
    release = release_of(chosen)
    write(store(chosen), release, chosen, ROOT / "dbt_project", target)
    console.print(f"report on release {release} written to {target.relative_to(ROOT)}")


def doctor() -> None:
    """Settings, versions, disk; then what is missing and how to mend it."""
    from recsys.sources import open_source
    from recsys.sources.base import Access

    missing = []
    console.print(f"python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores")
    for package in ("metaflow", "dbt-core", "dbt-duckdb", "duckdb", "great-expectations", "scikit-learn", "pyarrow", "numpy"):
        try:
            console.print(f"  {package} {version(package)}")
        except PackageNotFoundError:
            missing.append(f"{package} is not installed; `make clean` and run again")
    chosen = settings()
    for name, value in vars(chosen).items():
        console.print(f"{name} = {vars(value) if hasattr(value, '__dataclass_fields__') else value}", markup=False)
    free = shutil.disk_usage(ROOT).free / 2**30
    kept = store(chosen)
    console.print(f"{free:.0f} GiB free, store at {kept.backend}, live release {kept.current(strict=False) or 'none'}")
    tell_faults(kept)
    if free < 5:
        missing.append(f"{free:.1f} GiB of disk are free; 10 million events want about 5")
    if shutil.which("git") is None:
        missing.append("git is not on the PATH; releases cannot record the commit they were made by")
    access = Access(ROOT / "dbt_project" / "queries" / (dial("DATASET") or read_config()["dataset"]), os.environ)
    try:
        open_source(chosen.dataset).prepare(access)
    except RecsysError as error:
        missing.append(str(error))
    for problem in missing:
        console.print(f"missing: {problem}")
    console.print("nothing is missing" if not missing else "")


def schema() -> None:
    """Writes the JSON schema of config.toml, which editors read."""
    from recsys.checks import FAMILIES
    from recsys.recommenders import RECOMMENDERS
    from recsys.settings.schema import config_schema

    made = config_schema(RECOMMENDERS, {name: family.module.Limits for name, family in FAMILIES.items()})
    SCHEMA.write_text(json.dumps(made, indent=1) + "\n")
    console.print(f"written to {SCHEMA.name}")


def user() -> str:
    """Who runs and deploys, as Metaflow names them."""
    return os.environ.get("METAFLOW_USER", "")


def target() -> Target:
    """Where TO says; in production, in the branch BRANCH, or else in the user's own."""
    values, place = read_config(), dial("TO") or "step-functions"
    if elsewhere := dial("STORE"):
        raise RecsysError(f'STORE "{elsewhere}" is for runs of this machine; what is deployed has store.root of config.toml')
    options = production() or cloud.options_of(dial("BRANCH"), user())
    return Target(place, cloud.read(values, place), options, dial("AUTHORIZE"))


def deployed() -> list[str]:
    """The flows that run on a schedule, or the one of FLOW."""
    wanted = [dial("FLOW")] if dial("FLOW") else [name for name in FLOWS if name != "TuneFlow"]
    if unknown := [name for name in wanted if name not in FLOWS]:
        raise RecsysError(f'FLOW "{unknown[0]}" is no flow; choose one of {", ".join(FLOWS)}')
    return wanted


def deploy() -> None:
    """Puts the scheduled flows where they run by themselves."""
    checked_settings()  # refuses a wrong value before anything is deployed
    chosen = target()
    if branch() == PRODUCTION:
        require_committed(code_version())
    for flow in deployed():
        made = chosen.deploy(FLOWS[flow])
        console.print(f"{flow} is {made.name} on {chosen.name}, {made.schedule}: {len(made.steps)} steps, {', '.join(made.steps)}")
    console.print(
        f"image {chosen.cloud.image}\npackages in s3://{chosen.cloud.bucket}/metaflow, store {describe_store(root(), branch())}"
    )
    console.print(f"whoever is not {user()} deploys over it, or undeploys it, by AUTHORIZE={made.token}")


def undeploy() -> None:
    """Takes flows and schedules away again; releases stay."""
    chosen, refused = target(), []
    for flow in deployed():
        try:
            chosen.ask(FLOWS[flow], "delete")
            console.print(f"{flow} runs by itself no more")
        except RecsysError as error:
            if "doesn't exist" in str(error):
                console.print(f"{flow} is not deployed")
            else:
                refused.append(f"{flow}: {error}")
    if refused:
        raise RecsysError("\n".join(refused))


def trigger() -> None:
    """Starts a deployed flow now."""
    if not dial("FLOW"):
        raise RecsysError("FLOW is not given; pass FLOW=TrainFlow")
    for line in target().runs(FLOWS[deployed()[0]], "trigger"):
        console.print(line, markup=False, soft_wrap=True)


def cloud_status() -> None:
    """What became of the executions of every deployed flow."""
    chosen = target()
    if chosen.name == "argo-workflows":
        raise RecsysError(f"TO argo-workflows lists no executions; ask the cluster: argo list --namespace {chosen.cloud.namespace}")
    for flow in deployed():
        for line in chosen.runs(FLOWS[flow], "list-runs") or ["no execution yet"]:
            console.print(f"{flow}: {line}", markup=False, soft_wrap=True)


def cost() -> None:
    """Estimates what a month of the deployed flows costs, at every size that was measured."""
    from rich.table import Table

    from prices import NEAREST, month

    prices = tomllib.loads((ROOT / "cloud" / "prices.toml").read_text())
    parts = ("containers", "hours", "compute", "storage", "rest", "total")
    table = Table("a month", *parts, box=None, padding=(0, 2, 0, 0))
    for size, measured in json.loads((ROOT / "bench.json").read_text()).items():
        made = month(measured, read_operations(read_config()), prices)
        table.add_row(f"{size} events", *(f"{getattr(made, part):,.{0 if part == 'containers' else 2}f}" for part in parts))
    console.print(table)
    console.print(f"US dollars by list prices of {prices['date']} in cloud/prices.toml, which also says what is assumed")
    console.print(
        f"{', '.join(f'{one} counts as {other}' for one, other in NEAREST.items())}; select as a container that does nothing"
    )
    console.print("storage is what `make gc YES=1` leaves: run it every month, for without it each day adds to the bill")


VERBS: tuple[Callable[[], None], ...] = (
    *(run, audit, recommend, monitor, cron, resume, tune, step, card),
    *(releases, verify, rollback, pin, canary, promote, gc),
    *(check_data, quarantine, report, export, exposures, explain, add_case, expect, reproduce, diff, score, doctor, schema),
)
VERBS += (deploy, undeploy, trigger, cloud_status, cost)
COMMANDS = {verb.__name__: verb for verb in VERBS}


class Stopped(BaseException):
    """Somebody ends this process by a signal."""


def stop(number: int, frame: Any) -> None:
    for other in STOPPING:
        signal.signal(other, signal.SIG_IGN)  # it is being ended
    raise Stopped(number)


def main() -> None:
    variables.check(GIVEN, ROOT / "Makefile")
    point_metaflow()
    (name,) = [part for part in sys.argv[1:] if "=" not in part]
    with scratch() as folder:
        os.environ |= {"METAFLOW_CLIENT_CACHE_PATH": str(folder / "metaflow"), "METAFLOW_TEMPDIR": str(folder)}
        COMMANDS[name]()
        for words in opened:
            console.print(f"store       {words}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    for one in STOPPING:
        signal.signal(one, stop)
    try:
        main()
    except Stopped as stopped:
        told = f"stopped by {signal.Signals(stopped.args[0]).name}; all its processes have ended, and what is live is whole"
        sys.stderr.write(f"error: {told}: run again{of_store()}\n")
        sys.exit(128 + stopped.args[0])
    except Exception as error:
        if told := describe_error(error):
            sys.exit(f"error: {told}{of_store()}")
        raise
