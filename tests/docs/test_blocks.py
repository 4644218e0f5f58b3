"""How the blocks of a document are read, run and compared."""

import os
from pathlib import Path

import pytest

import documents


def run(folder: Path, text: str) -> Path:
    """A document's blocks, run in an empty folder. `~~~` stands for the fence."""
    page, place = folder / "page.md", folder / "clone"
    place.mkdir(exist_ok=True)
    page.write_text(text.replace("~~~", "```"))
    documents.run(documents.parse(page), place, folder / "home")
    return place


def console(*lines: str, mark: str = "") -> str:
    """A document of one block."""
    return "\n".join([*[f"<!-- {mark} -->"] * bool(mark), "~~~console", *lines, "~~~", ""])


@pytest.mark.parametrize(
    "expected",
    [
        ["one", "two", "three"],
        ["one", "...", "three"],
        ["...", "three"],
        ["one", "..."],
        ["..."],
        ["one", "t...o", "...e..."],
        ["one", "two ...", "three ..."],  # no text at all is any text, too
        ["one", "two", "...", "three  ", ""],  # no lines at all are any number, too
        [],
    ],
)
def test_output_as_it_is_shown_passes(tmp_path: Path, expected: list[str]) -> None:
    run(tmp_path, console(r"$ printf 'one\ntwo  \nthree\n\n'", *expected))


@pytest.mark.parametrize("expected", [["one"], ["one", "three"], ["...", "two"], ["one", "..", "three"], ["one", "tw", "three"]])
def test_other_output_fails_and_is_shown(tmp_path: Path, expected: list[str]) -> None:
    with pytest.raises(AssertionError, match=r"(?s)page.md, line 1.*printf.*expected:.*printed:\none\ntwo\nthree"):
        run(tmp_path, console(r"$ printf 'one\ntwo\nthree\n'", *expected))


def test_all_that_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)line 1.*echo 1.*echo 2.*line 7.*echo 3"):
        run(tmp_path, console("$ echo 1", "2", "$ echo 2", "3") + console("$ echo 3", "4"))


def test_the_line_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"not printed: th\.e\n"):
        run(tmp_path, console(r"$ printf 'one\ntwo\nthree\n'", "one", "...", "th.e", "four"))


def test_a_failing_command_fails_whatever_it_prints(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended with exit code 3.*printed:\nno"):
        run(tmp_path, console("$ echo no; (exit 3)", "no"))


def test_a_command_that_should_fail_must_fail_with_its_output(tmp_path: Path) -> None:
    run(tmp_path, console("$ echo no >&2; false", "no", mark="fails"))
    with pytest.raises(AssertionError, match="ended with exit code 0"):
        run(tmp_path, console("$ echo no", "no", mark="fails"))
    with pytest.raises(AssertionError, match="printed:\nno"):
        run(tmp_path, console("$ echo no; false", "yes", mark="fails"))


def test_a_command_that_ends_the_shell_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended with exit code 4"):
        run(tmp_path, console("$ exit 4"))


def test_folder_and_variables_stay_from_block_to_block(tmp_path: Path) -> None:
    first = console("$ mkdir sub && cd sub", "$ export NAME=value")
    run(tmp_path, first + console("$ echo $NAME in $(basename $PWD)", "value in sub"))


def test_commands_of_several_lines_are_one(tmp_path: Path) -> None:
    heredoc = ["$ cat > names.txt <<'EOF'", "Ann", "$ no command", "EOF"]
    place = run(tmp_path, console(*heredoc, "$ echo a \\", "  b", "a b"))
    assert (place / "names.txt").read_text() == "Ann\n$ no command\n"


def test_marked_blocks_become_files(tmp_path: Path) -> None:
    text = "<!-- file: sub/new.toml -->\n~~~toml\na = 1\n~~~\n\n<!-- append: sub/new.toml -->\n~~~toml\nb = 2\n~~~\n"
    place = run(tmp_path, text + "~~~toml\nonly = 'shown'\n~~~\n" + console("$ cat sub/new.toml", "a = 1", "b = 2"))
    assert [path.name for path in place.rglob("*")] == ["sub", "new.toml"]


def test_nothing_is_appended_to_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"none.toml does not exist"):
        run(tmp_path, "<!-- append: none.toml -->\n~~~toml\na = 1\n~~~\n")


def test_an_indented_block_is_text(tmp_path: Path) -> None:
    run(tmp_path, "Write:\n\n    ~~~console\n    $ false\n    ~~~\n")


def test_a_block_that_is_not_run_is_not_run(tmp_path: Path) -> None:
    run(tmp_path, console("$ false", mark="not run: it needs an account"))


def test_a_command_in_the_background_is_waited_for_and_ended(tmp_path: Path) -> None:
    server = "$ sh -c 'echo $$ > pid; sleep 0.5; echo port 8000; sleep 0.1; echo more; exec sleep 1000'"
    place = run(tmp_path, console(server, "port ...", mark="in the background") + console("$ cat pid", "..."))
    assert not documents.exists(int((place / "pid").read_text()))


def test_a_command_in_the_background_that_ends_too_early_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)has ended.*printed:\nport is taken"):
        run(tmp_path, console("$ echo port is taken; exit 1", "port 8000", mark="in the background"))


def test_a_command_in_the_background_shows_when_it_has_started(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="show the output"):
        run(tmp_path, console("$ sleep 1000", mark="in the background"))


def test_no_variable_of_the_tests_reaches_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAKEFLAGS", "STORE", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "ours")
    run(tmp_path, console("$ echo $(env | grep -c -e ours -e PYTEST)", "0", "$ echo $HOME", str(tmp_path / "home")))
    assert os.environ["MAKEFLAGS"] == "ours"


@pytest.mark.parametrize("mark", ["not run", "not run: ", "not-run: it costs", "in background", "files: a.toml"])
def test_an_unknown_mark_is_refused(tmp_path: Path, mark: str) -> None:
    with pytest.raises(ValueError, match=r"page.md, line 2.*is no mark of a block"):
        run(tmp_path, console("$ false", mark=mark))


def test_a_command_without_a_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'begins with "make run"; write each command after "\$ "'):
        run(tmp_path, console("make run"))
