"""What tests share: settings of the repository with a small shop as dataset `shop`, stores in both places, a world whose answer is
known, and a fork with the small shop."""

import fcntl
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_shop
from recsys import pipeline
from recsys.evaluation.holdout import ScoredWindow, holdout_table
from recsys.features import warehouse
from recsys.features.state import State
from recsys.recommenders.base import LIST_KINDS
from recsys.recommenders.registry import create
from recsys.releases import files
from recsys.settings.loading import parse, resolve
from recsys.settings.run import Settings
from recsys.store.snapshots import Store, open_store
from recsys.validation.check_input import CheckInput
from recsys.validation.registry import CHECKS, limits
from recsys.validation_report import CheckResult, ValidationReport

pytest_plugins = ["object_store", "postgresql", "serving_shop"]

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "dbt_project"


@cache
def parse_config() -> dict[str, Any]:
    """config.toml; parsed once, for it takes longer than most tests."""
    return parse((ROOT / "config.toml").read_text())


def read_config() -> dict[str, Any]:
    """config.toml, in which dataset `shop` is the small shop of the tests."""
    values = deepcopy(parse_config())
    return values | {"dataset": "shop", "datasets": values["datasets"] | {"shop": dict(small_shop.DATASET)}}


def make_settings(name: str = "shop", /, **changes: Any) -> Settings:
    """The repository's settings; `changes` by section, such as checks={"raw": {"min_events": 1}}, or the run's own parameters."""
    values = read_config()
    run = {
        source_setting: changes.pop(source_setting) for source_setting in ("as_of", "sample", "inputs") if source_setting in changes
    }
    for section, source_settings in changes.items():
        target = values["datasets"][name] if section == "dataset" else values[section]
        target |= source_settings
    return resolve(values, name, **run)


@pytest.fixture
def settings() -> Settings:
    return make_settings()


@pytest.fixture(params=["directory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store's root: a directory, then an object store."""
    return str(tmp_path / "store") if request.param == "directory" else f"{request.getfixturevalue('s3')}/{tmp_path.name}"


@pytest.fixture
def store(root: str) -> Store:
    return open_store(root, "shop")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where a store lies is a matter of the store, whose tests are quick in S3, too, each in its first case. Of other tests only
    those marked with `both_stores` are."""
    seen = set()
    for item in items:
        case, (test, *_) = getattr(item, "callspec", None), item.nodeid.split("[")
        if case and case.params.get("root") == "s3":
            if test in seen or not (item.path.stem == "test_store" or item.get_closest_marker("both_stores")):
                item.add_marker(pytest.mark.slow)
            seen.add(test)


def make_state(baskets: np.ndarray, available: list[bool] | None = None, recent: list[int] | None = None) -> State:
    """A state of users u0, u1, ... and items i0, i1, ... from a (users, items) matrix of basket counts."""
    users, items = np.nonzero(baskets)
    counts = baskets[users, items]
    purchases = baskets.sum(0).astype(np.float32)
    return State(
        cutoff=date(2024, 2, 1),
        user_ids=np.array([f"u{row}" for row in range(baskets.shape[0])]),
        item_ids=np.array([f"i{column}" for column in range(baskets.shape[1])]),
        users={
            "segment": np.array(["north"] * baskets.shape[0]),
            "is_sampled": np.ones(baskets.shape[0], bool),
            "target_events": baskets.sum(1).astype(np.int32),
            "mean_price": np.ones(baskets.shape[0], np.float32),
            "quantity_per_target": np.ones(baskets.shape[0], np.float32),
        },
        items={
            "title": np.array([f"Item {column}" for column in range(baskets.shape[1])]),
            "category": np.array(["c"] * baskets.shape[1]),
            "is_available": np.array(available or [True] * baskets.shape[1]),
            "target_events": purchases,
            "target_users": (baskets > 0).sum(0).astype(np.int32),
            "mean_price": np.ones(baskets.shape[1], np.float32),
            "price_change": np.ones(baskets.shape[1], np.float32),
            "quantity_per_target": np.ones(baskets.shape[1], np.float32),
            **{f"target_events_{days}d": np.array(recent, np.float32) if recent else purchases for days in (7, 28, 91)},
        },
        user_items={"user_index": users.astype(np.int32), "item_index": items.astype(np.int32), "baskets": counts.astype(np.int32)},
        history={
            "user_index": users.astype(np.int32),
            "item_index": items.astype(np.int32),
            "basket_number": np.ones(len(users), np.int32),
            "days": np.ones(len(users), np.float32),
        },
        views_and_carts={
            "user_index": users.astype(np.int32),
            "item_index": items.astype(np.int32),
            "days": np.ones(len(users), np.int64),
        },
    )


PASSED = CheckResult("events", 100, 50, "block", True, "100 events")


@cache
def release_files(mark: str, cutoff: date) -> dict[str, bytes]:
    """Files of a release of four users and six items, by name."""
    state = make_state(np.array([[2, 1, 0, 1, 0, 1], [1, 0, 0, 1, 1, 0], [0, 1, 1, 0, 1, 0], [1, 1, 1, 0, 0, 0]]))
    state = replace(state, cutoff=cutoff, items=state.items | {"title": np.array([f"{mark} {id}" for id in state.item_ids])})
    scores = {"ndcg@10": np.array([0.5, 0.25])}
    window = ScoredWindow(cutoff, state.user_ids[:2], scores, np.zeros((2, 3), np.int32), 3)
    popularity, windows = create("popularity", {"days": 7}).fit(state), dict.fromkeys(LIST_KINDS, window)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files.write(folder, popularity, {}, state, holdout_table(windows), make_settings())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_release(folder: Path, mark: str = "", cutoff: date = date(2024, 2, 1)) -> None:
    """A release of four users and six items, as the service reads it. `mark`: in every title, so that contents differ."""
    for name, content in release_files(mark, cutoff).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def make_release(
    store: Store, id: str, mark: str = "", cutoff: date = date(2024, 2, 1), model: str = "m1", features: str = "f1"
) -> ValidationReport:
    """Commits such a release; returns the validation report that lets it pass, attached."""
    with store.draft() as folder:
        write_release(folder, mark, cutoff)
        made_from = {"recommender": "popularity", "code": {}, "audited": False, "days": ["2024-01-01", "2024-01-31"]}
        made_from |= {"config": asdict(make_settings())}
        manifest = store.commit(folder, "release", made_from, {"model": model, "features": features}, id)
    report = ValidationReport(model, features, manifest.content, on_model={"baseline": [PASSED]}, on_data={"lists": [PASSED]})
    store.attach_report(id, report.to_json())
    return report


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what all workers of a test run read, such as a trained model."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def make_once(folder: Path, make: Callable[[Path], Any]) -> Any:
    """What `make` returns for a new folder. The first worker that asks calls it; all others read the result."""
    made = folder / "made.pickle"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            made.write_bytes(pickle.dumps(make(folder)))
    return pickle.loads(made.read_bytes())


BuildOnce = Callable[..., str]


@pytest.fixture(scope="session")
def build_once(shared_folder: Path) -> BuildOnce:
    """Builds features in a store as `pipeline.build_features` does; those that a test has built before are copied."""

    def build(store: Store, raw_id: str, settings: Settings, serving: bool = False) -> str:
        raw = store.load("raw", raw_id).manifest
        id = warehouse.features_id(warehouse.parameters(raw, settings, serving), raw_id, PROJECT)
        own = Path(str(store.backend)) / "features" / id

        def make(folder: Path) -> None:
            pipeline.build_features(store, raw_id, settings, PROJECT, serving)
            shutil.copytree(own, folder / id)

        make_once(shared_folder / f"features-{id}", make)
        if not own.exists():
            shutil.copytree(shared_folder / f"features-{id}" / id, own)
        return id

    return build


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CheckInput:
    """What a training checks: a release of a small shop, made by a small two_stage."""
    small = make_settings(features={"training_windows": 4}, recommenders={"two_stage": {"windows": 4, "trees": 40}})
    store = open_store(str(tmp_path_factory.mktemp("store")), "shop")
    raw, _ = pipeline.land(store, small, date(2026, 1, 1))
    features = pipeline.build_features(store, raw, small, PROJECT).id
    recipes = [recipe for recipe in pipeline.recipes(small, audit=False) if recipe.name in ("popularity", "two_stage")]
    trained = [pipeline.train(store, recipe, features, {}, small) for recipe in recipes]
    evaluations = {one.recipe.name: one.windows for one in trained}
    sessions = pipeline.select_sessions(store, features, small)
    selection = pipeline.Selection("two_stage", trained[-1].model_id, evaluations, {}, [], sessions=sessions)
    release = store.load("release", pipeline.recommend(store, selection, features, small, {}))
    opened = pipeline.open_features(store, features, small)
    return CheckInput(store, small, PROJECT, release, opened, "two_stage", evaluations, sessions=sessions)


@pytest.fixture(scope="session")
def audited(trained: CheckInput) -> CheckInput:
    """What an audit checks: the same, with every bad day."""
    store, settings = trained.store, trained.settings
    bad_days = pipeline.make_bad_days(store, trained.features.id, settings, PROJECT)
    return replace(trained, bad_days={name: pipeline.open_features(store, id, settings) for name, id in bad_days.items()})


def failed(check: str, inputs: CheckInput) -> list[str]:
    """Names of the check results of a check that did not pass; every one has a sentence."""
    results = list(CHECKS[check].module.check(inputs, limits(check, inputs.settings)))
    assert results
    assert all(result.message for result in results)
    return [result.name for result in results if not result.passed]


SMALL: dict[str, dict[str, Any]] = {
    "recommenders.two_stage": {"trees": 20, "windows": 3},
    "features": {"training_windows": 3},
    "evaluation": {"bootstraps": 200},
    "store": {"root": "data/store"},  # whatever is deployed, no test touches
    "cloud": dict.fromkeys(
        ("bucket", "queue", "table", "task_role", "container_role", "workflow_role", "schedule_role", "image"), "changethis"
    ),
}


def assignments(given: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in given.items()]


def wait(seen: Callable[[], Any], seconds: float = 20) -> Any:
    """What `seen` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := seen()):
        assert time.monotonic() < end, "not seen in time"
        time.sleep(0.05)
    return found


class Fork:
    """A copy of the repository, and its verbs."""

    summary = ""  # of the first run
    before: Callable[[], object] | None = None  # what a verb's process does before it starts
    user = "tester"

    def __init__(self, root: Path):
        self.root, self.stores = root, root / "data" / "store"
        root.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "Makefile", root)
        for name in ("flows", "dbt_project"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("*.pyc.*", "logs"))  # files being written
        files = small_shop.write(root.with_name(f"{root.name}-shop"), users=300, days=200)
        (root / "config.toml").write_text(small_shop.put_into((ROOT / "config.toml").read_text(), files))
        self.set("", "dataset", "shop")
        for section, values in SMALL.items():
            for key, value in values.items():
                self.set(section, key, value)

    def run(self, verb: str, **given: str) -> subprocess.CompletedProcess[str]:
        """What make runs for a verb. `given`: variables of its command line."""
        environment = os.environ | {
            "METAFLOW_USER": self.user,
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.root / "data" / "metaflow"),
            "METAFLOW_CARD_LOCALROOT": str(self.root / "data" / "metaflow" / "cards"),
            "METAFLOW_DEFAULT_DATASTORE": "local",
            "METAFLOW_DEFAULT_METADATA": "local",
        }
        command = [sys.executable, str(self.root / "flows" / "cli"), verb, *assignments(given)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=self.root, preexec_fn=self.before)

    def make(self, verb: str, environment: dict[str, str] = {}, **given: str) -> subprocess.CompletedProcess[str]:
        """A verb by make itself, with the packages of these tests."""
        with self.start(verb, environment, **given) as process:
            told = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, *told)

    def start(self, verb: str, environment: dict[str, str] = {}, **given: str) -> subprocess.Popen[str]:
        """The same in the background, in a group of processes of its own."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # these tests run under make
        ready = [part for extra in ("run", "serve") for part in ("-o", f".venv/.{extra}")]
        command = ["make", *ready, verb, f"BIN={Path(sys.executable).parent}", *assignments(given)]
        pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(command, env=outside | environment, **pipes, text=True, cwd=self.root, process_group=0)

    def store(self, dataset: str = "shop") -> Path:
        return self.stores / dataset

    def current(self) -> str | None:
        pointer = self.store() / "CURRENT"
        return pointer.read_text().strip() if pointer.exists() else None

    def content(self, release: str) -> str:
        return json.loads((self.store() / "releases" / release / "manifest.json").read_text())["content"]

    def set(self, section: str, key: str, value: Any) -> None:
        """Writes a value of config.toml, whatever stands there. `section`: "" for keys above the first one."""
        config = (self.root / "config.toml").read_text()
        inline = ", ".join(f"{name} = {part}" for name, part in value.items()) if isinstance(value, dict) else ""
        written = f"{{ {inline} }}" if inline else json.dumps(value)
        header = rf"^\[{re.escape(section)}\].*\n" if section else r"\A"
        there = rf"({header}(?:(?!\[).*\n)*?{key} *= *)[^#\n]*"
        changed, count = re.subn(there, lambda found: found[1] + written, config, flags=re.M)
        if not count:
            changed, count = re.subn(header, lambda found: f"{found[0]}{key} = {written}\n", config, flags=re.M)
        assert count == 1, section
        (self.root / "config.toml").write_text(changed)

    def setting(self, section: str, key: str) -> Any:
        """A value of config.toml."""
        values = tomllib.loads((self.root / "config.toml").read_text())
        for name in section.split("."):
            values = values[name]
        return values[key]


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line that says what is wrong, and no traceback."""
    assert result.returncode == (2 if result.args[0] == "make" else 1)  # make exits with 2 if a command fails
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    for word in words:
        assert word in errors[0]


def peeking_project(folder: Path) -> Path:
    """A copy of the dbt project in which somebody has added a feature that sees one day past the cutoff."""
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("target", "logs"))
    model = folder / "models" / "features" / "feat_items"
    column = "      - {name: days_since_last_target,"
    for suffix, old, new in (
        (
            ".sql",
            "final as (",
            """peeking as (
                select cutoffs.cutoff, events.item_index, count(*) as trend
                from cutoffs inner join events on events.event_at < cutoffs.cutoff + interval 1 day
                group by events.item_index, cutoffs.cutoff
            ),

            final as (""",
        ),
        (".sql", "        -- numbers: time", "        coalesce(peeking.trend, 0)::int as trend,"),
        (".sql", "    left join counted on", "    left join peeking using (cutoff, item_index)\n    left join counted on"),
        (".yml", column, f"      - {{name: trend, data_type: int}}\n{column}"),
    ):
        file = model.with_suffix(suffix)
        text = file.read_text()
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))
    return folder


@pytest.fixture(scope="session")
def inputs(shared_folder: Path) -> CheckInput:
    """A release of a small shop's two_stage, healthy, and all that led to it."""

    def make(folder: Path) -> CheckInput:
        chosen = make_settings(features={"training_windows": 4}, evaluation={"selection_windows": 1})
        small = {"slices": chosen.checks["slices"] | {"min_users": 20}, "released": chosen.checks["released"] | {"users": 150}}
        recommenders = {"popularity": {"days": 7}, "two_stage": {"windows": 2, "trees": 40}}
        chosen = replace(chosen, recommenders=recommenders, checks=chosen.checks | small)
        store = open_store(str(folder), "shop")
        raw, _ = pipeline.land(store, chosen, date(2026, 1, 1))
        built = pipeline.build_features(store, raw, chosen, PROJECT).id
        trained = [pipeline.train(store, recipe, built, {}, chosen) for recipe in pipeline.recipes(chosen, audit=False)]
        selection = pipeline.select(trained, chosen, pipeline.select_sessions(store, built, chosen))
        release = store.load("release", pipeline.recommend(store, selection, built, chosen, {}))
        features = pipeline.open_features(store, built, chosen)
        evaluated = selection.winner, selection.evaluations
        return CheckInput(store, chosen, PROJECT, release, features, *evaluated, sessions=selection.sessions)

    return make_once(shared_folder / "inputs", make)


def sabotage(inputs: CheckInput, **parts: Any) -> CheckInput:
    """The same inputs with other parts: fields, or what it reads when asked (state, holdout_state, model, lists)."""
    fields = {name: parts.pop(name) for name in list(parts) if name in inputs.__dataclass_fields__}
    copy = replace(inputs, **fields)
    read = {name: getattr(inputs, name) for name in ("state", "holdout_state", "model", "lists")}
    vars(copy).update(read | parts)
    return copy


def failures(check: str, inputs: CheckInput) -> dict[str, CheckResult]:
    """What a checks finds wrong, by name."""
    results = CHECKS[check].module.check(inputs, limits(check, inputs.settings))
    return {result.name: result for result in results if not result.passed}
