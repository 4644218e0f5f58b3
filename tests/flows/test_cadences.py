"""A week of the simulated shop: trained once, listed every day, monitored at its end."""

import json
from datetime import date, timedelta

import pytest

from conftest import Fork, assert_refused

ELSEWHERE = {"STORE": "data/elsewhere"}
DAYS = [date(2024, 6, 1) + timedelta(days=offset) for offset in range(9)]


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_seven_days_of_lists_are_each_told_what_they_hit(fork: Fork) -> None:
    trained = fork.current()
    for day in DAYS[1:8]:
        listed = fork.run("recommend", AS_OF=day.isoformat(), **ELSEWHERE)
        assert listed.returncode == 0, listed.stdout + listed.stderr
        assert str(fork.current()).startswith(f"{day:%Y%m%d}-")
    watched = fork.run("monitor", AS_OF=DAYS[8].isoformat(), **ELSEWHERE)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    report = json.loads((fork.store() / "monitor" / f"{DAYS[8]}.json").read_text())
    assert [day["day"] for day in report["days"]] == [day.isoformat() for day in DAYS[:8]]
    assert len({day["release"] for day in report["days"]}) == 8
    assert report["days"][0]["release"] == trained
    assert all(0 <= day["metrics"]["hit_rate@10"] <= 1 for day in report["days"] if day["listed"])
    assert sum(day["listed"] for day in report["days"]) > 20
    assert report["live"] == fork.current()
    assert report["days"][-1]["day"] in watched.stdout
    assert not (fork.root / "data" / "store").exists()


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """A fork with one release, of the first day, in another store than the configured one."""
    fork = Fork(tmp_path_factory.mktemp("fork"))
    fork.stores = fork.root / ELSEWHERE["STORE"]
    first = fork.run("run", AS_OF=DAYS[0].isoformat(), **ELSEWHERE)
    assert first.returncode == 0, first.stdout + first.stderr
    return fork


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["recommend", "monitor"])
def test_without_a_live_release_a_run_says_what_to_do(verb: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert_refused(Fork(tmp_path_factory.mktemp("empty")).run(verb), "nothing is live", "`make run` first")
