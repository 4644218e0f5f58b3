"""Settings: what is wrong stops a run at its start, by name."""

import re
from typing import Any

import pytest

from conftest import ROOT, make_settings
from recsys import RecsysError, config


def values() -> dict[str, Any]:
    return config.parse((ROOT / "config.toml").read_text())


def test_the_repositorys_config_resolves_for_every_dataset() -> None:
    for name in values()["datasets"]:
        assert config.resolve(values(), name).dataset.source == name


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(RecsysError, match=r"lists\.lenght"):
        make_settings(lists={"lenght": 3})


def test_a_missing_setting_is_named() -> None:
    changed = values()
    del changed["lists"]["length"]
    with pytest.raises(RecsysError, match=r"lists\.length.* is missing"):
        config.resolve(changed)


@pytest.mark.parametrize("wrong", ["3", 2.5, True])
def test_a_value_of_another_type_is_named(wrong: object) -> None:
    with pytest.raises(RecsysError, match="takes a value of type int"):
        make_settings(lists={"length": wrong})


def test_the_horizon_must_be_a_multiple_of_the_step() -> None:
    with pytest.raises(RecsysError, match="no multiple"):
        make_settings(dataset={"horizon_days": 20, "step_days": 14})


@pytest.mark.parametrize("wrong", ["2024-2-1", "2024-02-30", "yesterday"])
def test_a_date_is_iso_or_refused(wrong: str) -> None:
    with pytest.raises(RecsysError, match="AS_OF"):
        make_settings(as_of=wrong)


def test_a_sample_is_a_share_and_has_a_store_of_its_own() -> None:
    assert make_settings(sample=0.01).name == "shop-sample-0.01"
    with pytest.raises(RecsysError, match="SAMPLE"):
        make_settings(sample=0.0)


def test_broken_toml_is_told_with_its_line() -> None:
    with pytest.raises(RecsysError, match="line 1"):
        config.parse("dataset = \nseed = 1")


def test_the_baseline_cannot_be_turned_off() -> None:
    changed = values()
    del changed["recommenders"]["popularity"]
    with pytest.raises(RecsysError, match=r"recommenders\.popularity.* is missing"):
        config.resolve(changed)


def test_cutoffs_lie_on_one_grid_with_training_windows_behind_every_evaluated_one() -> None:
    changed = make_settings(
        dataset={"horizon_days": 28, "step_days": 14}, evaluation={"selection_windows": 1}, features={"training_windows": 3}
    )
    assert changed.evaluated_days == [28, 56]
    assert changed.cutoff_days == [0, 28, 42, 56, 70, 84, 98, 112]


@pytest.mark.parametrize("wrong", ["http://recs.example.com", "localhost:8000", "*.example.com", "::1", ""])
def test_an_allowed_host_is_a_name_without_scheme_and_port(wrong: str) -> None:
    with pytest.raises(RecsysError, match=rf'serve\.allowed_hosts names "{re.escape(wrong)}"; write'):
        make_settings(serve={"allowed_hosts": ["localhost", wrong]})


def test_names_addresses_and_any_host_can_be_allowed() -> None:
    hosts = ["recs.example.com", "recs", "10.0.0.7", "[::1]", "*"]
    assert make_settings(serve={"allowed_hosts": hosts}).serve.allowed_hosts == hosts
