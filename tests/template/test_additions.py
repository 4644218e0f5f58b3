"""What a fork adds first: a feature, a business rule, a check, a source and a recommender, each in a few lines. All have an effect
on a run, and the quick tests of the packages that they touch still pass."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from clones import Clone

import small_shop
from conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

SOURCE = '''"""The log of our shop's web server."""

from recsys.sources.events import Events


class Weblog(Events):
    """A folder with three files, read like any export."""

    def __init__(self, folder: str):
        super().__init__(*(f"{folder}/{table}.parquet" for table in ("events", "items", "users")))
'''
RECOMMENDER = '''"""Cheap items first, for whoever looks for a bargain."""

import numpy as np
from scipy import sparse

from recsys.features import State
from recsys.recommenders.base import Recommender, Scorer


class Cheapest(Recommender):
    """Ranks items by their mean price, the lowest first."""

    name = "cheapest"

    def _fit(self, state: State) -> None:
        pass  # prices are part of the state

    def _lack(self, state: State) -> str:
        return "" if state.items["target_events"].any() else "nothing was sold yet"

    def scorer(self, state: State) -> Scorer:
        score = 1 / (1 + np.nan_to_num(state.items["mean_price"], nan=np.inf))
        return lambda rows: sparse.csr_matrix(np.tile(score, (len(rows), 1)).astype(np.float32))
'''
CHECK = '''"""Titles: do the items that lists show have one?"""

from collections.abc import Iterator

import numpy as np

from recsys.settings import Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult


@section
class TitlesLimits:
    min_titled: Share


SETTINGS: dict[str, str | tuple[str, str]] = {"titled_items": "min_titled"}


def check(inputs: CheckInput, limits: TitlesLimits) -> Iterator[CheckResult]:
    shown = np.unique(np.concatenate([lists.items[lists.items >= 0] for _, lists in inputs.lists.values()]))
    share = float((inputs.state.items["title"][shown] != "").mean())
    words = f"{share:.0%} of the items in lists have a title"
    yield CheckResult("titled_items", share, limits.min_titled, "block", share >= limits.min_titled, words)
'''
STAGING = {  # as those of the source `events`
    f"dbt_project/models/staging/weblog/{file.name.replace('_events__', '_weblog__')}": file.read_text()
    .replace("source('events'", "source('weblog'")
    .replace("stg_events__", "stg_weblog__")
    for file in (ROOT / "dbt_project" / "models" / "staging" / "events").glob("stg_*")
}
NEW = STAGING | {
    "dbt_project/models/staging/weblog/weblog.yml": (
        "sources:\n  - name: weblog\n    schema: raw\n    tables: [{name: events}, {name: items}, {name: users}]\n"
    ),
    "flows/recsys/sources/weblog.py": SOURCE,
    "flows/recsys/recommenders/cheapest.py": RECOMMENDER,
    "flows/recsys/validation/checks/titles.py": CHECK,
}
EDITED: list[tuple[str, str, str]] = [  # file, a text that is there, and what is put behind it
    # a feature
    (
        "dbt_project/models/features/feat_items.sql",
        "        coalesce(counted.carts_28d, 0)::int as carts_28d,\n",
        "        coalesce(counted.returns, 0)::int as times_returned,\n",
    ),
    (
        "dbt_project/models/features/feat_items.yml",
        "      - {name: carts_28d, data_type: int}\n",
        "      - {name: times_returned, data_type: int}\n",
    ),
    # a business rule
    (
        "flows/recsys/settings/run.py",
        "PositiveShare\n    static: Names\n",
        "    min_price: Days = 0\n",
    ),
    ("flows/recsys/releases/business_rules.py", '    "blocked_categories",\n', '    "min_price",\n'),
    (
        "flows/recsys/releases/business_rules.py",
        """np.isin(items["category"], rules.blocked_categories)\n""",
        """    if rules.min_price:\n        hidden["min_price"] = items["mean_price"] < rules.min_price\n""",
    ),
    ("config.toml", "max_category_share = 1.0", "\nmin_price = 30"),
    # a source
    ("flows/recsys/sources/registry.py", "import Shop\n", "from recsys.sources.weblog import Weblog\n"),
    ("flows/recsys/sources/registry.py", '    "events": Events,\n', '    "weblog": Weblog,\n'),
    # a recommender
    ("flows/recsys/recommenders/registry.py", "base import Recommender\n", "from recsys.recommenders.cheapest import Cheapest\n"),
    ("flows/recsys/recommenders/registry.py", "        Popularity,\n", "        Cheapest,\n"),
    ("config.toml", "[recommenders.popularity]\ndays = 7\n", "\n[recommenders.cheapest]\n"),
    # a check
    ("flows/recsys/validation/registry.py", "    time_travel,\n", "    titles,\n"),
    (
        "flows/recsys/validation/registry.py",
        '    "seen": Check(seen, seen.SeenLimits, "data"),\n',
        '    "titles": Check(titles, titles.TitlesLimits, "data"),\n',
    ),
    ("config.toml", "min_final = 0.8 ", "\n"),
]
DATASET = """
[checks.titles]
min_titled = 0.9

[datasets.weblog]
source = "weblog"
horizon_days = 28
step_days = 14
max_quarantine = 0.03
max_age_days = 0
[datasets.weblog.source_settings]
folder = "{folder}"
"""
TOUCHED = (
    "tests/settings", "tests/test_packages.py", "tests/recommenders/test_contract.py", "tests/releases/test_rules.py",
    "tests/features/test_dbt.py", "tests/sources/test_events.py", "tests/validation/checks/test_advice.py",
)  # fmt: skip


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with all of them, whose default dataset is read by the new source."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    for name, text in NEW.items():
        (clone.root / name).parent.mkdir(exist_ok=True)
        (clone.root / name).write_text(text)
    for name, there, new in EDITED:
        text = (clone.root / name).read_text()
        assert text.count(there) == 1, (name, there)
        (clone.root / name).write_text(text.replace(there, there + new))
    folder, config = clone.root / "data" / "weblog", clone.root / "config.toml"
    small_shop.write(folder, users=300, days=200)
    text = re.sub(r'^dataset = "\w+"', 'dataset = "weblog"', config.read_text(), flags=re.M)
    config.write_text(text + DATASET.format(folder=folder))
    assert clone.verb("schema").returncode == 0
    return clone


def test_each_addition_has_an_effect_on_a_run(extended: Clone) -> None:
    done = extended.verb("run")
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    store = extended.root / "data" / "store" / "weblog"
    release = store / "releases" / (store / "CURRENT").read_text().strip()
    report = json.loads((release / "validation_report.json").read_text())
    models = {json.loads(path.read_text())["name"]: path.parent for path in store.glob("models/*/recommender.json")}
    (features,) = store.glob("features/*/feat_items.parquet")
    assert "titled_items" in json.dumps(report)
    assert "cheapest" in models
    assert "times_returned" in pq.read_schema(features).names
    assert "item_times_returned" in np.load(models["two_stage"] / "learned.npz")["columns_"]
    assert json.loads((release / "release.json").read_text())["rules"]["all_items"]["min_price"] > 0


def test_the_quick_tests_of_what_they_touch_still_pass(extended: Clone) -> None:
    extended.passes("-m", "ruff", "format", "--quiet", "flows")
    extended.passes("-m", "ruff", "check", "--quiet", "flows")
    extended.passes("-m", "pytest", "-q", "-m", "not slow", *TOUCHED)
