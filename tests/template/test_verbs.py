"""Every verb is tried in a store that is given, unless it has no store."""

from test_commands import DEPLOYED, IN_THE_STORE

from cli.app import command_line

BY_A_FLOW = {"run", "audit", "recommend", "monitor", "tune", "resume", "step", "card", "quarantine"}  # their own tests pass STORE
ELSEWHERE = {"cron", "cost", "schema", "fork", "check-data"}


def test_every_verb_is_tried_in_a_store_that_is_given() -> None:
    assert command_line().commands.keys() == IN_THE_STORE.keys() | BY_A_FLOW | ELSEWHERE | DEPLOYED | {"serve"}
