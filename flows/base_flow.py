"""Base class of the flows: parameters, settings and store, and decorators for costs, errors, secrets and schedules."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metaflow import (
    Config,
    FlowMutator,
    FlowSpec,
    JSONType,
    Parameter,
    config_expr,
    current,
    package_sources,
    project,
    user_step_decorator,
)
from metaflow.cli_args import cli_args
from metaflow.exception import MetaflowException

from cli.alerts import Alert, send
from cli.production import ROOT, code_version, is_production, require_committed, require_image_of, store_branch
from cli.progress import ABOUT
from cli.scratch import scratch
from recsys.costs import cpu_seconds, peak_mb
from recsys.settings import AlertSettings, Operations, Settings, read_operations, resolve
from recsys.store import Store, collect_rarely, describe_error, end_with_parent, open_store
from recsys.validation import cases, expected_changes
from recsys.validation_report import CheckResult

log = logging.getLogger(__name__)
DEPLOYING = {"step-functions", "argo-workflows"}  # commands that compile a flow for a scheduler
end_with_parent()
collect_rarely()


class Refused(MetaflowException):
    """Ends a run with the message of an error that a person can fix, without a traceback."""

    headline = "refused"


@user_step_decorator
def accounted(step_name: str, flow: Any, inputs: Any = None, attributes: Any = None) -> Iterator[None]:
    """Records a task's CPU seconds and memory in `cost`, and turns an error that a person can fix into one line."""
    if flow.index is not None:  # a task of a foreach
        name = " to ".join(map(str, flow.input)) if isinstance(flow.input, tuple) else flow.input
        sys.stdout.write(f"{ABOUT}{name}\n")
        sys.stdout.flush()
    flow.refusal = ""
    with scratch():
        try:
            if step_name == "start":
                flow.require_its_code()
            yield
        except Exception as error:
            flow.refusal = describe_error(error)
            if is_final(flow, step_name):
                alert(flow, step_name, error)
            if flow.refusal:
                raise Refused(f"{step_name}: {flow.refusal}") from error
            raise
        finally:
            flow.cost = {"cpu_seconds": cpu_seconds(), "memory_mb": peak_mb()}


def is_final(flow: Any, step_name: str) -> bool:
    """Whether a failure of this attempt fails the step: there is no retry and no @catch. A killed process sends no alert; the
    scheduler's alarm covers it."""
    caught = any(decorator.name == "catch" for decorator in getattr(type(flow), step_name).decorators)
    return not caught and current.retry_count >= int((cli_args.step_kwargs or {}).get("max_user_code_retries") or 0)


def alert(flow: Any, step_name: str, error: Exception) -> None:
    """Sends an alert with the error and the check results that failed."""
    results = [*getattr(flow, "raw_results", []), *getattr(getattr(flow, "report", None), "results", [])]
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    try:
        flow.alert(step_name, reason, [result for result in results if not result.passed])
    except Exception as other:  # the step's own error matters more
        log.warning("no alert was sent: %s", other)


class accounting(FlowMutator):
    """Adds `accounted` to every step."""

    def mutate(self, mutable_flow: Any) -> None:
        for _, step in mutable_flow.steps:
            step.add_decorator(accounted)


class with_secrets(FlowMutator):
    """In containers, gives steps the secrets named in config.toml: those of [unattended] to the steps that read a source, those of
    [alerts] to all. Only the names are deployed; Metaflow fetches the values when a step starts."""

    def mutate(self, mutable_flow: Any) -> None:
        operations = operations_of(mutable_flow)
        if os.environ.get("METAFLOW_RUNTIME_ENVIRONMENT", "local") == "local":
            return
        for name, step in mutable_flow.steps:
            of_sources = operations.unattended.secrets if name in ("start", "land") else []
            secrets = dict.fromkeys([*of_sources, *operations.alerts.secrets])
            if secrets:
                sources = [{"type": "aws-secrets-manager", "id": secret} for secret in secrets]
                step.add_decorator("secrets", deco_kwargs={"sources": sources})


class unattended(FlowMutator):
    """Adds the settings of scheduled runs to a flow: [schedule.<name>], and for each step its resources, a time limit and, when
    deployed, retries.

    Every step is safe to retry. Snapshots are named by their content, or are not served before they are published; publishing
    recognises a release that was already published.
    """

    def init(self, name: str) -> None:
        self.name = name

    def pre_mutate(self, mutable_flow: Any) -> None:
        schedule = operations_of(mutable_flow).schedule
        if self.name in schedule:
            mutable_flow.add_decorator("schedule", deco_kwargs={"cron": schedule[self.name].eventbridge})

    def mutate(self, mutable_flow: Any) -> None:
        operations = operations_of(mutable_flow)
        limits = operations.unattended
        retries = {"times": limits.retries, "minutes_between_retries": limits.minutes_between_retries}
        for name, step in mutable_flow.steps:
            step.add_decorator("resources", deco_kwargs=vars(operations.resources_of(name)))
            step.add_decorator("timeout", deco_kwargs={"minutes": limits.timeout_minutes})
            if DEPLOYING & set(sys.argv):
                step.add_decorator("retry", deco_kwargs=retries)


def operations_of(mutable_flow: Any) -> Operations:
    return read_operations(dict(mutable_flow.configs)["config"].to_dict())


def read_cases(context: Any) -> dict[str, Any]:
    """Reads cases.jsonl, if it exists. Deployed flows carry the cases with them."""
    file = ROOT / "cases.jsonl"
    return {"cases": cases.parse(file.read_text()) if file.exists() else []}


def deployed() -> bool:
    """Whether a scheduler started this run."""
    return str(current.run_id).startswith(("sfn-", "argo-"))


def read_expected(context: Any) -> dict[str, Any]:
    """Reads expected.jsonl, if it exists. Deployed flows carry the changes with them."""
    file = ROOT / "expected.jsonl"
    return {"expected": expected_changes.parse(file.read_text()) if file.exists() else []}


@accounting
@with_secrets
@project(name=config_expr("config.unattended.project"))  # a mutator could not add the options --production and --branch
@package_sources(ROOT / "dbt_project", suffixes=[".sql", ".yml"])
class BaseFlow(FlowSpec):
    """Parameters, configs and properties of all flows. It has no steps."""

    config = Config("config", default=str(ROOT / "config.toml"), parser="recsys.settings.parse", help="the settings")
    cases = Config("cases", default_value=read_cases, help="items that people expect in lists, or not")
    expected = Config("expected", default_value=read_expected, help="expected changes of the data")
    code = Config("code", default_value=code_version, help="commit, dirty flag and lock of the code")
    dataset = Parameter("dataset", default="", help="a dataset of config.toml")
    as_of = Parameter("as_of", default="", help="YYYY-MM-DD: use only events before that day")
    sample = Parameter("sample", default=1.0, help="share of the users, for a quick run")
    root = Parameter("root", default="", help="root of the store, instead of store.root")
    inputs = Parameter("inputs", default="{}", type=JSONType, help="settings of the source, such as paths of its files")

    @property
    def settings(self) -> Settings:
        values = self.config.to_dict() | self.cases.to_dict() | self.expected.to_dict()
        return resolve(values, self.dataset, self.as_of, self.sample, self.inputs)

    @property
    def operations(self) -> Operations:
        return read_operations(self.config.to_dict())

    @property
    def place(self) -> tuple[str, str]:
        """Root of the store, and Metaflow's name of the branch of this run."""
        return self.root or self.settings.store.root, current.get("branch_name") or ""

    @property
    def store(self) -> Store:
        (root, branch), settings = self.place, self.settings
        return open_store(root, settings.name, ROOT, store_branch(branch, root), settings.store.endpoint)

    def check_inputs(self) -> None:
        """Sets `today`. Raises RecsysError if a setting is wrong, if the source cannot be opened, or if alerts have no address."""
        from datetime import UTC, datetime

        from recsys.pipeline import check_settings
        from recsys.sources import open_source

        self.today = datetime.now(UTC).date()
        check_settings(self.settings)
        open_source(self.settings.dataset).prepare(self.access)
        _ = self.alerts  # refuses a run whose alerts would reach nobody

    def require_its_code(self) -> None:
        """Raises RecsysError if the image was built from other code, or if uncommitted code would publish to production."""
        code = self.code.to_dict()
        require_image_of(code)
        if hasattr(self, "publish") and is_production(*self.place):
            require_committed(code)

    @property
    def project(self) -> Path:
        return ROOT / "dbt_project"

    @property
    def access(self) -> Any:
        """Credentials for a database source."""
        from recsys.sources import Access

        return Access(self.project / "queries" / (self.dataset or self.config.dataset), os.environ)

    @property
    def alerts(self) -> AlertSettings | None:
        """Alert settings, with the webhook of the environment. None if a person started the run: the terminal tells what failed."""
        is_unattended = deployed() or os.environ.get("UNATTENDED")
        return self.operations.alerts.with_variable(os.environ) if is_unattended else None

    def warn(self, step_name: str, failed: Sequence[CheckResult]) -> None:
        """Sends an alert if check results failed, without failing the step."""
        if failed:
            self.alert(step_name, f"failed: {', '.join(result.name for result in failed)}", failed)

    def alert(self, step_name: str, reason: str, failed: Sequence[CheckResult]) -> None:
        """Sends an alert that names the run and the step, if the run sends alerts."""
        where = (current.flow_name, step_name, reason, f"{current.flow_name}/{current.run_id}/{step_name}")
        if alerts := self.alerts:
            send(Alert(*where, tuple(failed)), self.store, alerts, ROOT)
