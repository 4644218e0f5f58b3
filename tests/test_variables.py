"""Variables of make's command line: absurd values are refused by every verb, in one line, before anything starts."""

import pytest

import variables
from conftest import ROOT
from recsys import RecsysError

MAKEFILE = ROOT / "Makefile"
NEVER = ("-1", "nan", "inf", "-inf", "1e300", "some", "1,5", "0x10", "[]", "true")


@pytest.mark.parametrize("name", variables.NUMBERS)
def test_a_number_that_is_none_or_out_of_range_is_refused(name: str) -> None:
    allowed = variables.NUMBERS[name]
    wrong = [*NEVER, str(allowed.most + 1), str(allowed.least - 1)]
    wrong += ["1.5"] if allowed.is_whole else []
    wrong += [str(allowed.least)] if allowed.above else []
    for value in wrong:
        with pytest.raises(RecsysError) as refused:
            variables.check({name: value}, MAKEFILE)
        assert str(refused.value).startswith(f'{name} is "{value}"; it must be a ')


@pytest.mark.parametrize("name", variables.DAYS)
@pytest.mark.parametrize("value", ["yesterday", "2031-02-30", "2024-2-1", "20240201", "01.02.2024", "2024-01-01T00:00", "0"])
def test_what_is_no_day_is_refused(name: str, value: str) -> None:
    with pytest.raises(RecsysError, match=f'{name} is "{value}"; .*YYYY-MM-DD'):
        variables.check({name: value}, MAKEFILE)


@pytest.mark.parametrize("name", variables.SWITCHES)
def test_a_switch_is_on_or_off(name: str) -> None:
    if name in MAKEFILE.read_text():
        variables.check({name: "yes"}, MAKEFILE)
        with pytest.raises(RecsysError, match=f'{name} is "maybe"; it must be 1 or 0'):
            variables.check({name: "maybe"}, MAKEFILE)
    assert all(map(variables.is_on, ("1", "Yes")))
    assert not any(map(variables.is_on, ("", "0", "no", "False")))


@pytest.mark.parametrize(
    ("name", "words"),
    [("DATASTE", "did you mean DATASET?"), ("K", "no variable"), ("KEPP", "did you mean KEEP?")],
)
def test_a_variable_that_no_verb_has_is_refused(name: str, words: str) -> None:
    with pytest.raises(RecsysError) as refused:
        variables.check({name: "0"}, MAKEFILE)
    assert name in str(refused.value)
    assert words in str(refused.value)


def test_all_that_the_verbs_read_and_the_makefile_sets_is_accepted() -> None:
    given = {
        "DATASET": "shop",
        "SAMPLE": "0.01",
        "AS_OF": "2024-05-01",
        "KEEP": "3",
        "GRACE_HOURS": "0",
        "CANARY": "0",
        "STORE": "x",
    }
    given |= {"STORE": "x", "EVENTS": "x.csv", "RELEASE": "it's", "PYTHON": "python3.12", "METAFLOW_USER": "ada", "PORT": " 8000 "}
    variables.check(given, MAKEFILE)
