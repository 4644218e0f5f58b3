"""Checks command lines that documents show: do their verbs, variables and options exist?"""

import re
import shlex
from itertools import groupby, pairwise

from cli.app import command_line
from cli.variables import variable
from documents import HEREDOC, MAKEFILE

VERBS = command_line().commands
LISTED = dict(re.findall(r"^([a-z-]+):.*?## (.*)", MAKEFILE, re.M))
TARGETS = {*LISTED, *re.findall(r"\.venv/\.[a-z]+", MAKEFILE)}


def describe_misuse(command: str) -> str:
    """Which verb, variable or option of a command line does not exist, or nothing. Values are not looked at."""
    without_heredoc = re.sub(rf"({HEREDOC.pattern}[^\n]*).*", r"\1", command, flags=re.S)
    lexer = shlex.shlex(without_heredoc.replace("\\\n", " ").replace("2>&1", ""), posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError as error:
        return f"{command}: {error}"
    wrong = []
    for is_separator, part in groupby(words, lambda word: bool(word) and set(word) <= set(";&|()")):
        simple = [] if is_separator else _without_redirections(list(part))
        if "make" in simple:
            wrong += _misuse_of_make(simple[simple.index("make") + 1 :])
        if "flows/cli" in simple:
            wrong += _misuse_of_cli(simple[simple.index("flows/cli") + 1 :])
    return "; ".join(wrong)


def _without_redirections(words: list[str]) -> list[str]:
    pairs = pairwise(["", *words])
    return [word for before, word in pairs if not re.fullmatch(r"\d?[<>]+", before) and not re.match(r"\d?[<>]", word)]


def _misuse_of_make(words: list[str]) -> list[str]:
    targets = [word for word in words if ("=" not in word and word[:1] not in "-.$") or word.startswith(".venv/")]
    names = [word.partition("=")[0] for word in words if re.match(r"[A-Z_]+=", word)]
    known = {"PYTHON", "BIN"}
    for target in targets:
        known |= {variable(param) for param in VERBS[target].params} if target in VERBS else set()
        known |= set(re.findall(r"\b([A-Z_]+)=", LISTED.get(target, "")))
    wrong = [f"make has no target {target}" for target in targets if target not in TARGETS]
    return wrong + [f"`make {' '.join(targets)}` has no variable {name}" for name in names if name not in known]


def _misuse_of_cli(words: list[str]) -> list[str]:
    if not words or words[0] == "--help":
        return []
    if words[0] not in VERBS:
        return [f"flows/cli has no verb {words[0]}"]
    known = {"--help", *(name for param in VERBS[words[0]].params for name in param.opts)}
    options = [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
    return [f"flows/cli {words[0]} has no option {name}" for name in options if name not in known]
