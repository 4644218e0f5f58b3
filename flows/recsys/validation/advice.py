"""Advice on check results: which setting holds the threshold, what is suspect, which expected change explains it, what to run next.

A module of checks may have `SETTINGS`: names or patterns of its check results, each with its setting: a field of its limits,
`dataset.<key>`, `[section]` or another path of config.toml; several are parted by spaces, and a pair of the settings that warn and
that block is a tuple. What is not named there has a fixed threshold. Without `SETTINGS` the whole section is named. A check result
that comes with a setting of its own, written in the same way, keeps it.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatch
from types import ModuleType

from recsys.settings import Settings
from recsys.store import Store
from recsys.validation import expected_changes
from recsys.validation.expected_changes import ExpectedChange
from recsys.validation_report import CheckResult, Severity

SettingNames = dict[str, str | tuple[str, str]]


@dataclass(frozen=True)
class Advisor:
    """Completes the check results of one run.

    as_of: of its data. good_day: an earlier day to fall back to. release: what it made, if it came so far; daily: whether only
    lists are new in it. live: whether another release is live. expected: the changes that people know of.
    """

    store: Store
    settings: Settings
    as_of: date
    today: date
    good_day: date
    release: str = ""
    daily: bool = False
    live: bool = False
    expected: Sequence[ExpectedChange] = ()

    def complete(self, result: CheckResult, check: str, module: ModuleType, suspect: str) -> CheckResult:
        """The check result with its setting and, if it failed, what is suspect, the change that was expected, and advice."""
        check, result = f"{check}.{result.name}", replace(result, setting=self._setting(result, check, module))
        if result.passed:
            return result
        result = replace(result, suspect=result.suspect or suspect)
        if change := next((one for one in self.expected if one.softens(check, self.as_of, self.today)), None):
            words = f"{result.message}; expected: {change}"
            result = replace(result, severity="warn", expected=str(change), message=words)
        return replace(result, advice=self._advice(check, result.suspect)) if result.blocks else result

    def _setting(self, result: CheckResult, check: str, module: ModuleType) -> str:
        known: SettingNames | None = getattr(module, "SETTINGS", None)
        if known is None and not result.setting:
            return f"[checks.{check}] in config.toml" if self.settings.checks.get(check) else ""
        found = next((setting for pattern, setting in (known or {}).items() if fnmatch(result.name, pattern)), "")
        names = (result.setting or pick(found, result.severity)).split()
        return " and ".join(self._path(name, check) for name in names) + (" in config.toml" if names else "")

    def _path(self, name: str, check: str) -> str:
        if name.startswith("dataset."):
            return f"datasets.{self.settings.dataset_name}.{name.removeprefix('dataset.')}"
        return name if "." in name or name.startswith("[") else f"checks.{check}.{name}"

    def _advice(self, check: str, suspect: str) -> str:
        """How to look at it, and how to go on."""
        if not self.release:
            return f"Look: {self._make('check-data')}. Once the source is mended: {self._make('run')}"
        change = expected_changes.propose(check, self.as_of, self.today)
        known = f". If you expected this: {self._make('expect', change)}, then run again" if change else ""
        return f"Look: {self._make('report', f'RELEASE={self.release}')}{known}. {self._way_on(suspect)}"

    def _way_on(self, suspect: str) -> str:
        if suspect == "data":
            return f"To go on with the data of an earlier day: {self._make('run', f'AS_OF={self.good_day}')}"
        if self.daily:
            return f"To train a new model: {self._make('run')}"
        if self.live:
            return f"The live model still makes daily lists: {self._make('recommend')}"
        return f"To try other parameters: {self._make('tune')}"

    def _make(self, verb: str, values: str = "") -> str:
        """A command as it is typed, for this run's dataset, sample and store."""
        sample = f"SAMPLE={self.settings.sample:g}" if self.settings.sample < 1 else ""
        parts = ("make", verb, values, f"DATASET={self.settings.dataset_name}", sample, self._store())
        return f"`{' '.join(part for part in parts if part)}`"

    def _store(self) -> str:
        """The variable of make that names this run's store; none for that of this machine, or of the user's own branch."""
        root, place = self.settings.store.root.rstrip("/"), str(self.store.backend).removesuffix(f"/{self.settings.name}")
        if place.endswith(root):
            return "PRODUCTION=1" if root.startswith("s3://") else ""
        return "" if place.startswith(f"{root}/") else f"STORE={shlex.quote(place)}"


def pick(setting: str | tuple[str, str], severity: Severity) -> str:
    """Of a pair of settings, the one that warns or the one that blocks."""
    return setting if isinstance(setting, str) else setting[severity == "block"]
