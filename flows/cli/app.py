"""The command line as a whole: every verb, the signals that stop it, and how it ends."""

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
from cli.variables import Place, Verb, describe_misuse, opened, point_metaflow
from recsys.store import describe_error

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
    """Somebody ends this process by a signal."""


def stop(number: int, frame: Any) -> None:
    for other in STOPPING:
        signal.signal(other, signal.SIG_IGN)  # it is being ended
    raise Stopped(number)


def as_command(verb: Callable[..., None]) -> Callable[..., None]:
    """What Typer reads of a verb, and calls: the parameter `place` becomes the options of Place."""
    own = dict(inspect.signature(verb).parameters)
    common = fields(Place) if own.pop("place", None) else ()
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [one.replace(kind=kind) for one in own.values()]
    parameters += [inspect.Parameter(one.name, kind, default=one.default, annotation=one.type) for one in common]

    @wraps(verb)
    def command(**given: Any) -> None:
        if common:
            given["place"] = Place(**{one.name: given.pop(one.name) for one in common})
        point_metaflow()
        with scratch() as folder:
            os.environ |= {"METAFLOW_CLIENT_CACHE_PATH": str(folder / "metaflow"), "METAFLOW_TEMPDIR": str(folder)}
            verb(**given)
        for words in opened:
            say(f"store       {words}")

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def command_line(groups: Mapping[str, Verbs] = GROUPS) -> Any:
    """Verbs as a command of Typer. Help has groups and boxes on a terminal only."""
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
    """Runs the verb that the process's arguments name, and ends the process: with 2 if they are wrong, with 1 if the verb fails."""
    for one in STOPPING:
        signal.signal(one, stop)
    try:
        name = f"python {os.path.relpath(sys.argv[0])}".removesuffix("/__main__.py")
        command_line(groups).main(sys.argv[1:] or ["--help"] * (len(groups) > 1), prog_name=name, standalone_mode=False)
    except Stopped as stopped:
        by = signal.Signals(stopped.args[0]).name
        fail(f"stopped by {by}; all its processes have ended, and what is live is whole: run again", 128 + stopped.args[0])
    except TyperException as misuse:
        fail(describe_misuse(misuse), 2)
    except Exception as error:
        if not (told := describe_error(error)):
            raise
        fail(told, 1)


def fail(told: str, code: int) -> NoReturn:
    """Ends with one line, which names the shared store that it is about."""
    sys.stderr.write(f"error: {told}{''.join(f'; store: {words}' for words in opened)}\n")
    sys.exit(code)
