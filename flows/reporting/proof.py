"""Finders of proof for the answers of the ML Test Score. Each looks at check results of the live release, at test results or at
files, and returns a score with what it has read: 1 if the proof is there, 0.5 if a person had to make it, 0 if it is missing."""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

from recsys.store import Store
from recsys.validation_report import CheckResult, ValidationReport

RESULTS = "data/test-results.xml"  # where the Makefile has pytest write them


@dataclass(frozen=True)
class Sources:
    """Everything that a finder may read. root: folder of the repository. store: store of a dataset. release: id of the release that
    the score is about; None if nothing is live."""

    root: Path
    store: Store
    release: str | None

    @cached_property
    def results(self) -> dict[str, list[CheckResult]]:
        """Check results of the release, under the names of their checks and under their own. Empty without a report."""
        report = ValidationReport.read(self.store.report(self.release)) if self.release else None
        checks = report.checks if report else {}
        return checks | {result.name: [result] for found in checks.values() for result in found}

    @cached_property
    def junit(self) -> ElementTree.Element:
        """Results of the last test run, as pytest wrote them to RESULTS; without a child if there is no such file."""
        path = self.root / RESULTS
        return ElementTree.parse(path).getroot() if path.exists() else ElementTree.Element("testsuites")

    @cached_property
    def tests(self) -> dict[str, bool]:
        """Names of tests, and whether all their cases passed in the last run. A skipped case did not pass."""
        outcomes = defaultdict(list)
        for case in self.junit.iter("testcase"):
            failed = {child.tag for child in case} & {"failure", "error", "skipped"}
            outcomes[case.get("name", "").partition("[")[0]].append(not failed)
        return {name: all(passed) for name, passed in outcomes.items()}

    @property
    def caption(self) -> str:
        when = ", ".join(suite.get("timestamp", "")[:16] for suite in self.junit.iter("testsuite"))
        return f"validation report of release {self.release or 'none'}; {len(self.tests)} tests in {RESULTS}, {when or 'never run'}"


Finding = tuple[float, str]  # the score, and what was read
Finder = Callable[[Sources], Finding]


def results(*names: str) -> Finder:
    """Finds proof if all results of some checks passed on the live release. names: of checks or of single check results."""

    def find(sources: Sources) -> Finding:
        for name in names:
            if not sources.results.get(name):
                return 0.0, f"no check result of {name} in the live release's validation report"
            if failed := [result.name for result in sources.results[name] if not result.passed]:
                return 0.0, f"{name}: {', '.join(failed)} did not pass in the live release's validation report"
        count = sum(len(sources.results[name]) for name in names)
        return 1.0, f"validation_report.json: {', '.join(names)} passed, {count} check results"

    return find


def tests(*names: str) -> Finder:
    """Finds proof if some tests, given by name, passed in the last test run."""

    def find(sources: Sources) -> Finding:
        for name in names:
            if name not in sources.tests:
                return 0.0, f"no result of {name}; `make test` writes it"
            if not sources.tests[name]:
                return 0.0, f"{name} did not pass"
        return 1.0, f"passed: {', '.join(names)}"

    return find


def files(pattern: str, expected: str) -> Finder:
    """Finds proof if each file of a glob pattern has text that matches the regular expression `expected`."""

    def find(sources: Sources) -> Finding:
        found = {path.name: re.search(expected, path.read_text(), re.M) for path in sorted(sources.root.glob(pattern))}
        lacking = [name for name, match in found.items() if not match]
        texts = [match[0].strip() for match in found.values() if match]
        if lacking or not texts:
            return 0.0, f"{pattern}: {', '.join(lacking) or 'no file'} without {expected}"
        return 1.0, f"{pattern}: {len(texts)} of {len(texts)}, such as {texts[0]}"

    return find


def submitted(sources: Sources) -> Finding:
    """Finds proof if the live release was made by code that is committed as a whole."""
    manifest = sources.store.find("release", sources.release) if sources.release else None
    code = manifest.made_from["code"] if manifest else {}
    if not code.get("commit"):
        return 0.0, "no release that tells its commit"
    if code["dirty"]:
        return 0.0, f"release {sources.release} was made with changes that commit {code['commit'][:12]} does not hold"
    return 1.0, f"release {sources.release} was made by commit {code['commit'][:12]}, and nothing else"


def tuned(sources: Sources) -> Finding:
    """Finds proof if tuning.md has a trial of each parameter of the live recommender, and values that were better were taken."""
    manifest = sources.store.find("release", sources.release) if sources.release else None
    if manifest is None:
        return 0.0, "no release, so nothing to be tuned"
    name, settings = manifest.made_from["recommender"], manifest.made_from["config"]
    line = rf"^- \S+ {re.escape(settings['name'])}, features \w+, {re.escape(name)}: (\w+) = (\S+), not (\S+): .*?([\w ]+)$"
    path = sources.root / "tuning.md"
    tried = re.findall(line, path.read_text() if path.exists() else "", re.M)
    present = settings["recommenders"].get(name, {})
    if not tried:
        return 0.0, f"tuning.md: nothing of {name} was ever tried on {settings['name']}"
    if missing := present.keys() - {parameter for parameter, *_ in tried}:
        return 0.0, f"tuning.md: {', '.join(sorted(missing))} of {name} was never tried on {settings['name']}"
    newest = {change: word for *change_, word in tried for change in [tuple(change_)]}
    for (parameter, value, base), word in newest.items():
        if word.strip() == "better" and str(present.get(parameter)) == base:
            return 0.5, f"tuning.md: {parameter} = {value} was better than {base}, which is still live"
    return 1.0, f"tuning.md: {len(tried)} changes of {name} were tried on {settings['name']}"


def nothing(words: str) -> Finder:
    """Finds nothing, for what this repository does not do. words: says so."""
    return lambda sources: (0.0, words)


def half(finder: Finder, why: str) -> Finder:
    """Halves the score of a finder. why: the reason, which is added to what it has read."""

    def find(sources: Sources) -> Finding:
        score, read = finder(sources)
        return score / 2, f"{read}; {why}" if score else read

    return find


def every(*finders: Finder) -> Finder:
    """Returns the lowest score of several finders, for an answer that needs all of them."""

    def find(sources: Sources) -> Finding:
        found = [finder(sources) for finder in finders]
        least = min(score for score, _ in found)
        return least, "; ".join(read for score, read in found if score == least)

    return find


def any_of(*finders: Finder) -> Finder:
    """Returns the highest score of several finders, for an answer that needs one of them."""
    return lambda sources: max((finder(sources) for finder in finders), key=lambda found: found[0])
