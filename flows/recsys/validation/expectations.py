"""Runs Great Expectations on the tables that enter and leave the pipeline: raw data and lists.

The library is imported inside functions, because the import takes two CPU seconds and 250 MB that most flow steps do not need.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.validation_report import CheckResult, Severity

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation


@dataclass(frozen=True)
class Rule:
    """An expectation with the name, message and severity of its check result. The message says what must hold."""

    name: str
    expectation: "Expectation"
    message: str
    severity: Severity = "block"


def examine(table: "pd.DataFrame", rules: list[Rule]) -> list[CheckResult]:
    """Checks a pandas table; returns one check result per rule."""
    import great_expectations as gx

    context = _context()
    asset = context.data_sources.add_pandas("border").add_dataframe_asset("table")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": table})
    suite = gx.ExpectationSuite(name="border", expectations=[rule.expectation for rule in rules])
    results = {_key(result.expectation_config): result for result in batch.validate(suite).results}
    return [_result(rule, results[_key(rule.expectation.configuration)]) for rule in rules]


def document(borders: Mapping[str, tuple["pd.DataFrame", list[Rule]]], folder: Path) -> None:
    """Writes Data Docs about tables and their rules to a folder; `index.html` is the first page."""
    import great_expectations as gx

    context = _context()
    for site in context.get_site_names():
        context.delete_data_docs_site(site)
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = {"class_name": "SiteBuilder", "show_how_to_buttons": False, "store_backend": backend, "site_index_builder": index}
    context.add_data_docs_site("border", site)
    source = context.data_sources.add_pandas("border")
    for name, (table, rules) in borders.items():
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=[rule.expectation for rule in rules]))
        whole = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
        definition = gx.ValidationDefinition(name=name, data=whole, suite=suite)
        context.validation_definitions.add(definition).run(batch_parameters={"dataframe": table})
    context.build_data_docs()


def _context() -> Any:
    """A context of Great Expectations in memory, without progress bars and telemetry."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False}
    return context


def _key(configuration: Any) -> str:
    kwargs = {name: value for name, value in configuration.kwargs.items() if name != "batch_id"}
    return f"{configuration.type} {sorted(kwargs.items(), key=str)}"


def _result(rule: Rule, result: Any) -> CheckResult:
    if result.exception_info.get("raised_exception"):
        return CheckResult(
            rule.name, "no result", "a result", rule.severity, False, f"{rule.message}: the check raised an error; see its log"
        )
    seen = result.result.get("observed_value", result.result.get("unexpected_count"))
    message = rule.message if result.success else f"{rule.message}, but it does not hold{_sample(result)}"
    return CheckResult(rule.name, _plain(seen), "holds", rule.severity, bool(result.success), message)


def _sample(result: Any) -> str:
    if "observed_value" in result.result:
        return f" (seen: {_plain(result.result['observed_value'])})"
    seen = result.result.get("partial_unexpected_list", [])[:3]
    if all(isinstance(value, bool) for value in seen):  # a list of False says nothing more than the message
        return ""
    return f" ({result.result.get('unexpected_count')} rows, such as {', '.join(map(str, seen))})"


def _plain(value: Any) -> float | int | str:
    return value if isinstance(value, (int, float, str)) else str(value)
