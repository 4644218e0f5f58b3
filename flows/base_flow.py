"""What the flows share: settings, store, code version, and how a step's cost and refusals are told. No steps."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metaflow import Config, FlowMutator, FlowSpec, JSONType, Parameter, package_sources, user_step_decorator
from metaflow.exception import MetaflowException

from recsys import RecsysError, cases, config
from recsys.config import Settings
from recsys.costs import count_imports, cpu_seconds, peak_mb
from recsys.store import Store, open_store, sha256

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent if (HERE.parent / "dbt_project").is_dir() else HERE  # on a laptop beside flows/, in a container in it


class Refused(MetaflowException):
    """Ends a run with the words of a RecsysError instead of a traceback."""

    headline = "refused"


@user_step_decorator
def accounted(step_name: str, flow: Any, inputs: Any = None, attributes: Any = None) -> Iterator[None]:
    """Keeps a task's CPU seconds in `cost`, orchestration apart: what ran before its body, imports, and what dbt spent
    besides SQL (`dbt_overhead`, where a step sets it). Turns an error that a person can mend into plain words."""
    before = cpu_seconds()
    flow.refusal, flow.dbt_overhead = "", 0.0
    with count_imports() as imports:
        try:
            yield
        except (RecsysError, OSError) as error:
            flow.refusal = str(error)
            raise Refused(f"{step_name}: {error}") from error
        finally:
            total = cpu_seconds()
            overhead = before + imports.cpu_seconds + flow.dbt_overhead
            flow.cost = {"total": total, "orchestration": overhead, "memory_mb": peak_mb()}


class accounting(FlowMutator):
    def mutate(self, mutable_flow: Any) -> None:
        for _, step in mutable_flow.steps:
            step.add_decorator(accounted)


def code_version(context: Any) -> dict[str, Any]:
    """Commit, dirty flag and hash of the lock, taken where they are: containers have neither, so it travels with the run."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()

    lock = ROOT / "requirements.lock"
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain")),
        "lock": sha256(lock) if lock.exists() else "",
    }


def read_cases(context: Any) -> dict[str, Any]:
    """The cases of cases.jsonl, which need not be there. They travel with the run, as the commit does."""
    file = ROOT / "cases.jsonl"
    return {"cases": cases.parse(file.read_text()) if file.exists() else []}


@accounting
@package_sources(ROOT / "dbt_project", suffixes=[".sql", ".yml"])
class BaseFlow(FlowSpec):
    """Parameters and configs of every flow."""

    config = Config("config", default=str(ROOT / "config.toml"), parser="recsys.config.parse", help="the dials")
    cases = Config("cases", default_value=read_cases, help="what people want to see in lists")
    code = Config("code", default_value=code_version, help="commit, dirty flag, lock")
    dataset = Parameter("dataset", default="", help="a dataset of config.toml")
    as_of = Parameter("as_of", default="", help="YYYY-MM-DD: only events before that day are seen")
    sample = Parameter("sample", default=1.0, help="share of the users, for a quick look")
    inputs = Parameter("inputs", default="{}", type=JSONType, help="dials of the source: paths to its files")

    @property
    def settings(self) -> Settings:
        return config.resolve(self.config.to_dict() | self.cases.to_dict(), self.dataset, self.as_of, self.sample, self.inputs)

    @property
    def store(self) -> Store:
        settings = self.settings
        return open_store(settings.store.root, settings.name, ROOT)

    @property
    def project(self) -> Path:
        return ROOT / "dbt_project"
