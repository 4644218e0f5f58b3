"""Advice on check results: which setting holds the threshold, what is suspect, which expected change explains it, what to run next.

A module of checks may define `SETTINGS`, which maps names or patterns of check results to settings. A setting is a field of the
module's limits, `dataset.<key>`, `[section]` or another path of config.toml. Several settings are separated by spaces. A tuple
holds the setting that warns and the one that blocks. A check result that no pattern matches has a fixed threshold. Without
`SETTINGS`, the advice names the whole section of the check. A check result may also bring its own setting, written in the same way.
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
from recsys.validation_report import CheckResult

SettingNames = dict[str, str | tuple[str, str]]


@dataclass(frozen=True)
class Advisor:
    """Adds setting, suspect and advice to the check results of one run.

    as_of: cutoff of the run's data. good_day: an earlier day to fall back to. release: id of the new release, empty if there is
    none yet. daily: the release has new lists of an old model. live: another release is live. expected: changes announced by `make
    expect`.
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
        """Returns the check result with its setting and, if it failed, with its suspect, expected change and advice."""
        setting = setting_of(result, check, getattr(module, "SETTINGS", None), self.settings)
        check, result = f"{check}.{result.name}", replace(result, setting=setting)
        if result.passed:
            return result
        result = replace(result, suspect=result.suspect or suspect)
        if change := next((change for change in self.expected if change.softens(check, self.as_of, self.today)), None):
            message = f"{result.message}; expected: {change}"
            result = replace(result, severity="warn", expected=str(change), message=message)
        return replace(result, advice=self._advice(check, result.suspect, result.since)) if result.blocks else result

    def _advice(self, check: str, suspect: str, since: str) -> str:
        """Commands that show the fault, and commands to continue with."""
        if not self.release:
            return f"Look: {self._make('check-data')}. Once the source is repaired: {self._make('run')}"
        change = expected_changes.propose(check, self.as_of, self.today, since)
        expect = f". If you expected this: {self._make('expect', change)}, then run again" if change else ""
        return f"Look: {self._make('report', f'RELEASE={self.release}')}{expect}. {self._next_step(suspect)}"

    def _next_step(self, suspect: str) -> str:
        if suspect == "data":
            return f"To continue with the data of an earlier day: {self._make('run', f'AS_OF={self.good_day}')}"
        if self.daily:
            return f"To train a new model: {self._make('run')}"
        if self.live:
            return f"The live model still makes daily lists: {self._make('recommend')}"
        return f"To try other parameters: {self._make('tune')}"

    def _make(self, verb: str, values: str = "") -> str:
        """The command to type, with this run's dataset, sample and store."""
        sample = f"SAMPLE={self.settings.sample:g}" if self.settings.sample < 1 else ""
        parts = ("make", verb, values, f"DATASET={self.settings.dataset_name}", sample, self._store())
        return f"`{' '.join(part for part in parts if part)}`"

    def _store(self) -> str:
        """The make variable that selects this run's store; empty if it is the default store of this machine or branch."""
        root, place = self.settings.store.root.rstrip("/"), str(self.store.backend).removesuffix(f"/{self.settings.name}")
        if place.endswith(root):
            return "PRODUCTION=1" if root.startswith("s3://") else ""
        return "" if place.startswith(f"{root}/") else f"STORE={shlex.quote(place)}"


def setting_of(result: CheckResult, check: str, known: SettingNames | None, settings: Settings) -> str:
    """The settings in config.toml that hold the threshold of a check result; "" if it is fixed. known: the `SETTINGS` of its
    module."""
    if known is None and not result.setting:
        return f"[checks.{check}] in config.toml" if settings.checks.get(check) else ""
    found = next((setting for pattern, setting in (known or {}).items() if fnmatch(result.name, pattern)), "")
    own = found if isinstance(found, str) else found[result.severity == "block"]
    names = (result.setting or own).split()
    return " and ".join(_path(name, check, settings) for name in names) + (" in config.toml" if names else "")


def _path(name: str, check: str, settings: Settings) -> str:
    if name.startswith("dataset."):
        return f"datasets.{settings.dataset_name}.{name.removeprefix('dataset.')}"
    return name if "." in name or name.startswith("[") else f"checks.{check}.{name}"
