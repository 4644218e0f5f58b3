"""The command line: collects all verbs, handles signals, and turns errors into one line and an exit code."""

import inspect
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

from cli import cloud, cron, data, doctor, flows, fork, prices, releases, serve
from cli.scratch import scratch
from cli.terminal import say
from cli.variables import Place, Verb, describe_misuse, point_metaflow, shared_stores
from recsys.store import collect_rarely, describe_error

Verbs = tuple[Callable[..., None], ...]
GROUPS: dict[str, Verbs] = {
    "Flows": (flows.run, flows.audit, flows.recommend, flows.monitor, flows.tune, flows.resume, flows.step, flows.card),
    "Releases": (releases.releases, releases.verify, releases.report, releases.diff, releases.explain, releases.score),
    "Live and kept": (releases.rollback, releases.canary, releases.promote, releases.pin, releases.gc, releases.reproduce),
    "Data": (data.check_data, data.quarantine, data.export, data.exposures, data.add_case, data.expect),
    "This machine": (serve.serve, cron.cron, doctor.doctor, doctor.schema, fork.fork),
    "Cloud": (cloud.deploy, cloud.undeploy, cloud.trigger, cloud.cloud_status, prices.cost),
}
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asks this process to end. The argument is its number."""


def stop(number: int, frame: Any) -> None:
    for other in STOPPING:
        signal.signal(other, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    raise Stopped(number)


def as_command(verb: Callable[..., None]) -> Callable[..., None]:
    """Wraps a verb for Typer: its parameter `place` becomes the options of Place."""
    own = dict(inspect.signature(verb).parameters)
    common = fields(Place) if own.pop("place", None) else ()
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [parameter.replace(kind=kind) for parameter in own.values()]
    parameters += [inspect.Parameter(field.name, kind, default=field.default, annotation=field.type) for field in common]

    @wraps(verb)
    def command(**values: Any) -> None:
        if common:
            values["place"] = Place(**{field.name: values.pop(field.name) for field in common})
        point_metaflow()
        with scratch() as folder:
            os.environ |= {"METAFLOW_CLIENT_CACHE_PATH": str(folder / "metaflow"), "METAFLOW_TEMPDIR": str(folder)}
            verb(**values)
        for store in shared_stores:
            say(f"store       {store}")

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def command_line(groups: Mapping[str, Verbs] = GROUPS) -> Any:
    """Builds the Typer command of all verbs. `--help` has groups and boxes on a terminal only."""
    is_terminal = sys.stdout.isatty()
    app = typer.Typer(
        help="Trains, publishes and serves recommendations. `rollback --release x` is the same as `make rollback RELEASE=x`.",
        add_completion=False,
        rich_markup_mode="rich" if is_terminal else None,
        context_settings={} if is_terminal else {"terminal_width": 160},
    )
    for panel, verbs in groups.items():
        for verb in verbs:
            app.command(cls=Verb, rich_help_panel=panel)(as_command(verb))
    return typer.main.get_command(app)


def main(groups: Mapping[str, Verbs] = GROUPS) -> None:
    """Runs the verb that the arguments of the process name. Exits with 1 if it is refused or fails, whatever the reason, and with
    128 and the number of a signal that stops it."""
    collect_rarely()
    for number in STOPPING:
        signal.signal(number, stop)
    try:
        name = f"python {os.path.relpath(sys.argv[0])}".removesuffix("/__main__.py")
        command_line(groups).main(sys.argv[1:] or ["--help"] * (len(groups) > 1), prog_name=name, standalone_mode=False)
    except Stopped as stopped:
        number, advice = stopped.args[0], ", or ".join(["run again", *getattr(stopped, "__notes__", [])])
        ended = "all its processes have ended, and the live release is unchanged"
        fail(f"stopped by {signal.Signals(number).name}; {ended}: {advice}", 128 + number)
    except TyperException as misuse:
        fail(describe_misuse(misuse))
    except Exception as error:
        if not (message := describe_error(error)):
            raise
        fail(message)


def fail(message: str, code: int = 1) -> NoReturn:
    """Prints one line, with the shared store that was used, and exits."""
    sys.stderr.write(f"error: {message}{''.join(f'; store: {store}' for store in shared_stores)}\n")
    sys.exit(code)
