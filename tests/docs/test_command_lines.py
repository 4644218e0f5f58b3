"""Verbs, variables and options in the command lines of documents."""

import pytest

from command_lines import describe_misuse


@pytest.mark.parametrize(
    "command",
    [
        "make",
        "make run DATASET=orders EVENTS=orders.csv   # it's a comment",
        "make run && make export TO=lists.csv | tail -1",
        "make test lint",
        "make run > log.txt 2>&1 && make diff A=<id> B=<id> >log.txt",
        "make $VERB",
        "make bench SIZES='1e5 1e6'",
        "make .venv/.lightgbm PYTHON=python3.12",
        "OLD=$(make releases DATASET=shop) make rollback RELEASE=<id>",
        "cat > a.txt <<'EOF'\nmake nothing, it's text\nEOF",
        "make run \\\n  DATASET=orders",
        "python flows/cli run --dataset orders --help",
        "git commit -m 'make it so'",
    ],
)
def test_commands_that_exist_are_known(command: str) -> None:
    assert describe_misuse(command) == ""


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("make rum", "make has no target rum"),
        ("make run && make tests", "make has no target tests"),
        ("make 'run", "make 'run: No closing quotation"),
        ("make .venv/.nothing", "make has no target .venv/.nothing"),
        ("make run \\\n  DATASTE=orders", "`make run` has no variable DATASTE"),
        ("make bench DATASET=shop", "`make bench` has no variable DATASET"),
        ("python flows/cli rum", "flows/cli has no verb rum"),
        ("python flows/cli run --datasets=a", "flows/cli run has no option --datasets"),
    ],
)
def test_verbs_variables_and_options_that_do_not_exist_are_named(command: str, wrong: str) -> None:
    assert describe_misuse(command) == wrong
