"""Options of the verbs in both spellings. Absurd values are refused in one line, before anything starts."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from typer.exceptions import TyperException

from cli.app import command_line
from cli.data import replacing
from cli.variables import Range, describe_misuse
from conftest import ROOT

VERBS = command_line().commands


def parse(verb: str, *arguments: str) -> dict[str, Any]:
    """Values of a verb's options."""
    return VERBS[verb].make_context(verb, list(arguments)).params


def refusal(verb: str, *arguments: str) -> str:
    """Why a command line is refused."""
    with pytest.raises(TyperException) as refused:
        parse(verb, *arguments)
    return describe_misuse(refused.value)


NUMBERS = [
    ("run", "SAMPLE", Range(0, 1, above=True)),
    ("run", "CANARY", Range(0, 1)),
    ("canary", "SHARE", Range(0, 1)),
    ("gc", "KEEP", Range(1, 1_000_000, is_whole=True)),
    ("gc", "GRACE_HOURS", Range(0, 87_600)),
    ("serve", "PORT", Range(1, 65_535, is_whole=True)),
]
NEVER = ("-1", "nan", "inf", "-inf", "1e300", "some", "1,5", "0x10", "[]", "true")


@pytest.mark.parametrize(("verb", "name", "allowed"), NUMBERS)
def test_a_number_that_is_none_or_out_of_range_is_refused(verb: str, name: str, allowed: Range) -> None:
    wrong = [*NEVER, str(allowed.most + 1), str(allowed.least - 1)]
    wrong += ["1.5"] if allowed.is_whole else []
    wrong += [str(allowed.least)] if allowed.above else []
    for value in wrong:
        assert refusal(verb, f"{name}={value}") == f'{name} is "{value}"; it must be {allowed}'
    assert math.isclose(parse(verb, f"{name}={allowed.most}")[name.lower()], allowed.most)


@pytest.mark.parametrize(("verb", "name"), [("run", "AS_OF"), ("exposures", "DAY"), ("expect", "FROM"), ("expect", "TO")])
@pytest.mark.parametrize("value", ["yesterday", "2031-02-30", "2024-2-1", "20240201", "01.02.2024", "2024-01-01T00:00", "0"])
def test_what_is_no_day_is_refused(verb: str, name: str, value: str) -> None:
    assert re.fullmatch(f'{name} is "{value}"; .*YYYY-MM-DD', refusal(verb, f"{name}={value}"))


@pytest.mark.parametrize(
    ("verb", "given", "words"),
    [
        ("run", "ON=moon", 'ON is "moon"; pass one of batch'),
        ("resume", "FLOW=TuneFlow", 'FLOW is "TuneFlow"; pass one of TrainFlow, RecommendFlow, MonitorFlow'),
        ("deploy", "TO=moon", 'TO is "moon"; pass one of step-functions, argo-workflows'),
        ("expect", "KIND=party", 'KIND is "party"; pass one of volume, catalogue, closed, price'),
        ("add-case", "SEVERITY=fatal", 'SEVERITY is "fatal"; pass one of warn, block'),
    ],
)
def test_what_is_none_of_the_choices_is_refused(verb: str, given: str, words: str) -> None:
    assert refusal(verb, given) == words


@pytest.mark.parametrize("verb", ["export", "quarantine"])
def test_a_file_is_written_only_into_a_folder_that_exists(verb: str, tmp_path: Path) -> None:
    folder = tmp_path / "nope"
    assert f'TO is "{folder}/x.parquet", but there is no folder {folder}; create it' in refusal(verb, f"TO={folder}/x.parquet")
    assert 'TO is "x.txt"; pass a ' in refusal(verb, "TO=x.txt")
    assert not folder.exists()


def test_a_file_that_was_not_written_whole_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    file, neighbour = tmp_path / "lists.csv", tmp_path / ".lists.csv"
    neighbour.write_text("mine")

    def write(text: str, room: int) -> None:
        with replacing(file) as partial:
            partial.write_text(text[:room])
            if len(text) > room:
                raise OSError("disk full")

    write("old", room=3)
    with pytest.raises(OSError, match="full"):
        write("newer", room=3)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"lists.csv": "old", ".lists.csv": "mine"}


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("Yes", True), ("", False), ("0", False), ("False", False)])
def test_a_switch_is_on_or_off(value: str, is_on: bool) -> None:
    assert parse("gc", f"YES={value}")["yes"] == is_on
    assert parse("gc", *["--yes"] * is_on)["yes"] == is_on
    assert refusal("gc", "YES=maybe") == 'YES is "maybe"; it must be 1 or 0'


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("run", ["DATASTE=shop"], "DATASTE is no variable of `make run`; did you mean DATASET?"),
        ("gc", ["KEPP=0"], "KEPP is no variable of `make gc`; did you mean KEEP?"),
        ("gc", ["PORT="], "PORT is no variable of `make gc`; it has KEEP, GRACE_HOURS, YES"),
        ("gc", ["--kep", "1"], "No such option: --kep"),
        ("pin", [], "RELEASE is not given; pass RELEASE="),
        ("pin", ["RELEASE= "], "RELEASE is not given; pass RELEASE="),
        ("gc", ["all"], "unexpected extra argument"),
    ],
)
def test_what_a_verb_does_not_have_and_what_it_needs_is_told(verb: str, arguments: list[str], words: str) -> None:
    assert words in refusal(verb, *arguments)


ODD = """it's $HOME "$(shell id)"; a\\b=--c"""


def test_both_spellings_say_the_same() -> None:
    assert parse("pin", f"RELEASE={ODD}", "DATASET= shop ", "OFF=1") == parse("pin", "--release", ODD, "--dataset", "shop", "--off")
    assert parse("add-case", "NOT=a", "WHY=x", "USER=u") == parse("add-case", "--not", "a", "--why", "x", "--user", "u")
    assert parse("pin", "--release", "A=b")["release"] == "A=b"
    assert parse("gc", "KEEP=3", "GRACE_HOURS=24") == parse("gc")


MAKE = dict(re.findall(r"^([a-z-]+): \.venv/\.\w+ ##(.*)\n(?!\t)", (ROOT / "Makefile").read_text(), re.M))


def test_make_lists_every_verb_and_its_variables() -> None:
    assert MAKE.keys() == VERBS.keys()
    for verb, words in MAKE.items():
        listed = set(re.findall(r"\b([A-Z][A-Z_]*)=", words))
        assert listed <= {param.opts[0].lstrip("-").replace("-", "_").upper() for param in VERBS[verb].params}, verb


def test_every_verb_and_every_option_is_explained() -> None:
    for name, verb in VERBS.items():
        assert verb.help, name
        assert all(getattr(param, "help", "") for param in verb.params), name
