"""Settings of deployed flows: sections of config.toml, schedules in three spellings."""

import pytest

from conftest import ROOT
from recsys import RecsysError
from recsys.settings.deployment import Schedule, read_operations
from recsys.settings.loading import parse, resolve
from recsys.settings.validation import build


def test_the_repositorys_config_is_read_and_steps_without_a_section_get_the_default() -> None:
    known = read_operations(parse((ROOT / "config.toml").read_text()))
    assert known.resources_of("no such step") == known.resources["default"]
    assert all(known.resources_of(step) == asked for step, asked in known.resources.items())


@pytest.mark.parametrize(
    ("cron", "eventbridge", "systemd"),
    [
        ("0 2 * * SUN", "0 2 ? * SUN *", "Sun *-*-* 2:0:00 UTC"),
        ("30 4 * * *", "30 4 * * ? *", "*-*-* 4:30:00 UTC"),
        ("*/15 * * * MON-FRI", "*/15 * ? * MON-FRI *", "Mon..Fri *-*-* *:0/15:00 UTC"),
        ("0 6,18 1 * *", "0 6,18 1 * ? *", "*-*-1 6,18:0:00 UTC"),
    ],
)
def test_a_schedule_is_spelt_for_each_scheduler(cron: str, eventbridge: str, systemd: str) -> None:
    schedule = build(Schedule, {"cron": cron}, "schedule.train")
    assert schedule.eventbridge == eventbridge
    assert schedule.systemd == systemd


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "daily",
        "0 2 * *",
        "0 2 1 * MON",
        "0 2 * * 0",
        "99 99 * * *",
        "0 24 * * *",
        "0 2 32 * *",
        "0 2 * 13 *",
        "*/0 * * * *",
        "0 2 ? * SUN *",
        "0 2 * * SUN; rm -rf /",
    ],
)
def test_another_schedule_is_refused(cron: str) -> None:
    with pytest.raises(RecsysError, match="five fields"):
        build(Schedule, {"cron": cron}, "schedule.train")


@pytest.mark.parametrize(
    ("section", "source_settings", "words"),
    [
        ("recommend", {"users_per_shard": 0}, "users_per_shard is 0"),
        ("recommend", {"users": 1}, "recommend.users"),
        ("schedule", {"train": {"cron": "soon"}}, "soon"),
        ("resources", {"train": {"cpu": 1, "memory": 1_024}}, "resources.default"),
    ],
)
def test_a_wrong_section_is_named(section: str, source_settings: dict, words: str) -> None:
    values = parse((ROOT / "config.toml").read_text())
    with pytest.raises(RecsysError, match=words):
        read_operations(values | {section: source_settings})


def test_no_release_depends_on_them() -> None:
    values = parse((ROOT / "config.toml").read_text())
    assert resolve(values) == resolve(values | {"monitor": {}})
