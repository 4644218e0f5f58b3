"""Base class of the flows: settings, store, code version, and how a step's costs and errors are recorded. It has no steps."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from recsys.settings import AlertSettings, Operations, Settings, resolve
from recsys.settings import read as read_operations
from recsys.store import Store, describe_error, end_with_parent, open_store
from recsys.validation import cases, expected_changes
from recsys.validation_report import CheckResult

log = logging.getLogger(__name__)
DEPLOYING = {"step-functions", "argo-workflows"}  # commands that compile a flow for a scheduler
end_with_parent()


class Refused(MetaflowException):
    """Ends a run with the words of a RecsysError instead of a traceback."""

    headline = "refused"


@user_step_decorator
def accounted(step_name: str, flow: Any, inputs: Any = None, attributes: Any = None) -> Iterator[None]:
    """Keeps a task's CPU seconds and memory in `cost`. Turns an error that a person can mend into plain words."""
    if flow.index is not None:  # one of a foreach
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
            if for_good(flow, step_name):
                alert(flow, step_name, error)
            if flow.refusal:
                raise Refused(f"{step_name}: {flow.refusal}") from error
            raise
        finally:
            flow.cost = {"cpu_seconds": cpu_seconds(), "memory_mb": peak_mb()}


def for_good(flow: Any, step_name: str) -> bool:
    """Whether a failure of this attempt is the step's: no other attempt follows, and nothing catches it. (What is killed cannot
    tell; a scheduler's own alarm does.)"""
    caught = any(decorator.name == "catch" for decorator in getattr(type(flow), step_name).decorators)
    return not caught and current.retry_count >= int((cli_args.step_kwargs or {}).get("max_user_code_retries") or 0)


def alert(flow: Any, step_name: str, error: Exception) -> None:
    """Tells people why, with the check results that failed and the run to look at."""
    found = [*getattr(flow, "raw_results", []), *getattr(getattr(flow, "report", None), "results", [])]
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    try:
        flow.alert(step_name, reason, [result for result in found if not result.passed])
    except Exception as other:  # of the store or of config.toml: the step's own error is the one to tell
        log.warning("no alert was sent: %s", other)


class accounting(FlowMutator):
    def mutate(self, mutable_flow: Any) -> None:
        for _, step in mutable_flow.steps:
            step.add_decorator(accounted)


class with_secrets(FlowMutator):
    """Gives the steps that read a source the secrets that config.toml names, where they run in a container. Only the names are
    deployed; Metaflow fetches the values when such a step starts."""

    def mutate(self, mutable_flow: Any) -> None:
        names = operations_of(mutable_flow).unattended.secrets
        sources = [{"type": "aws-secrets-manager", "id": name} for name in names]
        if sources and os.environ.get("METAFLOW_RUNTIME_ENVIRONMENT", "local") != "local":
            for name, step in mutable_flow.steps:
                if name in ("start", "land"):
                    step.add_decorator("secrets", deco_kwargs={"sources": sources})


class unattended(FlowMutator):
    """Makes a flow one that a scheduler can run, as config.toml says: its project, whose branches are deployed apart, its
    [schedule.<name>], and for each step resources, a time limit and, where it is deployed, retries: on a laptop a person is there.

    Every step may be repeated: snapshots are named by their content, or are not served before they are published, and publishing
    finds that it was done. So no step needs times=0.
    """

    def init(self, name: str) -> None:
        self.name = name

    def pre_mutate(self, mutable_flow: Any) -> None:
        known = operations_of(mutable_flow)
        if self.name in known.schedule:
            mutable_flow.add_decorator("schedule", deco_kwargs={"cron": known.schedule[self.name].eventbridge})

    def mutate(self, mutable_flow: Any) -> None:
        known = operations_of(mutable_flow)
        limits = known.unattended
        retries = {"times": limits.retries, "minutes_between_retries": limits.minutes_between_retries}
        for name, step in mutable_flow.steps:
            step.add_decorator("resources", deco_kwargs=vars(known.resources_of(name)))
            step.add_decorator("timeout", deco_kwargs={"minutes": limits.timeout_minutes})
            if DEPLOYING & set(sys.argv):
                step.add_decorator("retry", deco_kwargs=retries)


def operations_of(mutable_flow: Any) -> Operations:
    return read_operations(dict(mutable_flow.configs)["config"].to_dict())


def read_cases(context: Any) -> dict[str, Any]:
    """The cases of cases.jsonl, which need not be there. They travel with the run, as the commit does."""
    file = ROOT / "cases.jsonl"
    return {"cases": cases.parse(file.read_text()) if file.exists() else []}


def deployed() -> bool:
    """Whether a scheduler runs this, and no person looks on."""
    return str(current.run_id).startswith(("sfn-", "argo-"))


def read_expected(context: Any) -> dict[str, Any]:
    """The changes of expected.jsonl, which need not be there. They travel with the run too."""
    file = ROOT / "expected.jsonl"
    return {"expected": expected_changes.parse(file.read_text()) if file.exists() else []}


@accounting
@with_secrets
@project(name=config_expr("config.unattended.project"))  # not by a mutator: --production and --branch would be unknown
@package_sources(ROOT / "dbt_project", suffixes=[".sql", ".yml"])
class BaseFlow(FlowSpec):
    """Parameters and configs of every flow."""

    config = Config("config", default=str(ROOT / "config.toml"), parser="recsys.settings.parse", help="the source settings")
    cases = Config("cases", default_value=read_cases, help="what people want to see in lists")
    expected = Config("expected", default_value=read_expected, help="changes of the data that people expect")
    code = Config("code", default_value=code_version, help="commit, dirty flag, lock")
    dataset = Parameter("dataset", default="", help="a dataset of config.toml")
    as_of = Parameter("as_of", default="", help="YYYY-MM-DD: only events before that day are seen")
    sample = Parameter("sample", default=1.0, help="share of the users, for a quick look")
    root = Parameter("root", default="", help="another place for the store than store.root")
    inputs = Parameter("inputs", default="{}", type=JSONType, help="source settings of the source: paths to its files")

    @property
    def settings(self) -> Settings:
        values = self.config.to_dict() | self.cases.to_dict() | self.expected.to_dict()
        return resolve(values, self.dataset, self.as_of, self.sample, self.inputs)

    @property
    def operations(self) -> Operations:
        return read_operations(self.config.to_dict())

    @property
    def place(self) -> tuple[str, str]:
        """Root of the store, and the branch that this run works in, as Metaflow names it."""
        return self.root or self.settings.store.root, current.get("branch_name") or ""

    @property
    def store(self) -> Store:
        (root, branch), settings = self.place, self.settings
        return open_store(root, settings.name, ROOT, store_branch(branch, root), settings.store.endpoint)

    def require_its_code(self) -> None:
        """Raises if this image is not the code's, or if production would get what no commit holds."""
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
    def alerts(self) -> AlertSettings:
        """Alert settings. Runs that a person started by hand print their alerts."""
        known = self.operations.alerts
        return known if deployed() or os.environ.get("UNATTENDED") else replace(known, to="stdout")

    def warn(self, step_name: str, failed: Sequence[CheckResult]) -> None:
        """Alerts people of check results that failed, if any did, though the step did not."""
        if failed:
            self.alert(step_name, f"failed: {', '.join(result.name for result in failed)}", failed)

    def alert(self, step_name: str, reason: str, failed: Sequence[CheckResult]) -> None:
        """Tells people, with the run to look at."""
        where = (current.flow_name, step_name, reason, f"{current.flow_name}/{current.run_id}/{step_name}")
        send(Alert(*where, tuple(failed)), self.store, self.alerts, ROOT)
