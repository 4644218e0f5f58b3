"""Measures the cost of each step on simulated shops of 10^5 to 10^7 events and on dense retail data, and compares with the library
`implicit` on the same data. Writes bench.json and the tables of docs/benchmarks.md."""

import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from rich.console import Console

import bench_peers
import bench_tables
from cli.variables import option
from dense_retail import DenseRetail, write
from recsys import RecsysError, pipeline
from recsys.costs import cpu_seconds, peak_mb
from recsys.settings.loading import parse, resolve
from recsys.settings.run import Settings
from recsys.store.snapshots import Store, open_store

ROOT = Path(__file__).resolve().parents[1]
RANKER = "two_stage"
PACKAGES = ("dbt-core", "dbt-duckdb", "duckdb", "implicit", "numpy", "pyarrow", "scikit-learn", "scipy")
console = Console(highlight=False)


class SimulatedShop(NamedTuple):
    """Source settings of the simulated shop."""

    users: int
    items: int
    events: int
    days: int = 400


SIZES: dict[str, SimulatedShop | DenseRetail] = {
    "1e5": SimulatedShop(2_000, 600, 100_000),
    "1e6": SimulatedShop(40_000, 4_000, 1_000_000),
    "1e6_wide": SimulatedShop(40_000, 40_000, 1_000_000),
    "dense": DenseRetail(),
    "1e7": SimulatedShop(400_000, 20_000, 10_000_000),
}


class Log:
    """Runs tasks in processes of their own and records their costs. Runs the yardstick before each task."""

    def __init__(self, size: str):
        self.size, self.steps, self.yardsticks = size, list[dict[str, Any]](), list[float]()

    def spend(self, step: str, task: Callable, *arguments: Any) -> Any:
        self.yardsticks.append(in_process(yardstick)[0])
        value, cost = in_process(task, *arguments)
        self.steps.append({"step": step, **cost})
        console.print(f"{self.size:<8}  {step:<22} {cost['cpu_seconds']:8.1f} CPU s  {cost['peak_mb']:6} MB")
        return value


def in_process(task: Callable, *arguments: Any) -> tuple[Any, dict[str, Any]]:
    """Runs a task in a new process. Returns its result and the cost of the process, including its start."""
    start = time.monotonic()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        value, cost = pool.submit(measured, task, *arguments).result()
    return value, cost | {"wall_seconds": round(time.monotonic() - start, 2)}


def measured(task: Callable, *arguments: Any) -> tuple[Any, dict[str, Any]]:
    """Runs a task. Returns its result and cost. orchestration: CPU seconds of the interpreter's start, of importing the task's
    module, and of dbt without SQL."""
    before = cpu_seconds()
    value = task(*arguments)
    orchestration = before + getattr(value, "dbt_overhead", 0.0)
    return value, {"cpu_seconds": round(cpu_seconds(), 2), "orchestration": round(orchestration, 2), "peak_mb": peak_mb()}


def yardstick() -> float:
    """A reference workload of NumPy and DuckDB on one thread; returns its CPU seconds, about 1. Costs are divided by it, because
    machines differ and the speed of one machine changes over time."""
    import duckdb
    import numpy as np

    start = cpu_seconds()
    np.sort(np.random.default_rng(0).random(10_000_000))
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("set enable_progress_bar = false")
        groups = "select count(*) as n from range(20_000_000) group by hash(range) % 500_000"
        connection.execute(f"select max(n) from ({groups})").fetchall()
    return cpu_seconds() - start


def settings_of(size: SimulatedShop | DenseRetail, root: Path) -> Settings:
    """The repository's settings, with data of the given size and the store at `root`. Files of dense data are written to `root`."""
    values = parse((ROOT / "config.toml").read_text())
    values["store"]["root"] = str(root)
    if isinstance(size, DenseRetail):
        return resolve(values, "events", inputs=in_process(write, root, size)[0])
    values["datasets"]["shop"]["source_settings"] |= size._asdict()
    return resolve(values, "shop")


def run(name: str, size: SimulatedShop | DenseRetail, root: Path) -> dict[str, Any]:
    """Runs all steps of the training flow for one size and returns their costs. Also builds the features for daily lists alone."""
    settings, log, load = settings_of(size, root), Log(name), os.getloadavg()[0]
    store, project = open_store(settings.store.root, settings.name, endpoint=settings.store.endpoint), ROOT / "dbt_project"
    raw, results = log.spend("land", pipeline.land, store, settings, date.today())
    serving = log.spend("build_features serving", pipeline.build_features, store, raw, settings, project, True)
    built = log.spend("build_features", pipeline.build_features, store, raw, settings, project)
    recipes = pipeline.recipes(settings, audit=False)
    trained = [log.spend(f"train {recipe.name}", pipeline.train, store, recipe, built.id, {}, settings) for recipe in recipes]
    evaluations = {result.recipe.name: result.windows for result in trained}
    model_id = next(result.model_id for result in trained if result.recipe.name == RANKER)
    selection = pipeline.Selection(RANKER, model_id, evaluations, {}, [])
    ranked: tuple = (store, selection, built.id, settings, {})
    release = log.spend("recommend", pipeline.recommend, *ranked)
    log.spend("validate", pipeline.validate, store, release, results, selection, None, {}, date.today(), settings, project)
    return {
        "source_settings": size._asdict(),
        "counts": serving.counts,
        "load": round(load, 2),
        "yardsticks": [round(seconds, 3) for seconds in log.yardsticks],
        "steps": log.steps,
        "slowest_function": in_process(slowest, pipeline.recommend, *ranked)[0],
        "peers": compete(store, built.id, settings),
    }


def slowest(task: Callable, *arguments: Any) -> dict[str, Any]:
    """The function in which a task spends most of its time, and its share. Profiling is slow, so this is a separate run."""
    profile = cProfile.Profile()
    profile.runcall(task, *arguments)
    stats = pstats.Stats(profile)
    (file, _, function), (_, _, seconds, *_) = max(stats.stats.items(), key=lambda entry: entry[1][2])  # type: ignore[attr-defined]
    where = f"{Path(file).stem}.{function}" if Path(file).exists() else function
    return {"function": where, "share": round(seconds / stats.total_tt, 3)}  # type: ignore[attr-defined]


def compete(store: Store, features: str, settings: Settings) -> dict[str, Any]:
    """Compares our recommenders with those of `implicit` on the holdout, each in a process of its own."""
    names = [*settings.recommenders, *(bench_peers.PEERS if find_spec("implicit") else ())]
    if not find_spec("implicit"):
        console.print("implicit is not installed, so only our own recommenders run; `make bench` installs it")
    return {name: in_process(bench_peers.compete, name, store, features, settings)[0] for name in names}


def about() -> dict[str, Any]:
    """Date, commit, cores and versions of a result."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    versions = {"python": sys.version.split()[0]} | {package: known for package in PACKAGES if (known := installed(package))}
    return {"date": date.today().isoformat(), "commit": commit, "cores": os.cpu_count(), "versions": versions}


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def bench(sizes: Annotated[str, option(f"some of {' '.join(SIZES)}; by default, all", shown="SIZES")] = "") -> None:
    """Measures the cost of every step and replaces the results of these sizes in bench.json and docs/benchmarks.md.

    Example: make bench SIZES="1e5 1e6"
    """
    names = sizes.split()
    for name in names:
        if name not in SIZES:
            raise RecsysError(f'SIZES "{name}" is unknown; pass some of {" ".join(SIZES)}')
    file, made = ROOT / "bench.json", about()
    for name in names or SIZES:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "data") as folder:
            result = made | run(name, SIZES[name], Path(folder))
        known = (json.loads(file.read_text()) if file.exists() else {}) | {name: result}
        results = {size: known[size] for size in SIZES if size in known}
        file.write_text(json.dumps(results, indent=1) + "\n")
        bench_tables.insert(ROOT / "docs" / "benchmarks.md", results)
    console.print(bench_tables.render(results), markup=False, soft_wrap=True)


if __name__ == "__main__":
    from cli.app import main

    main({"": (bench,)})
