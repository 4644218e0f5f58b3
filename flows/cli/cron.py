"""The verb that prints a schedule without a cloud: lines for crontab, or units for systemd, that run the flows one at a time."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cli.production import ROOT, is_shared
from cli.terminal import console
from cli.variables import Place, option, read_config
from recsys import RecsysError
from recsys.settings import Operations
from recsys.settings import read as read_operations

VERBS = {"train": "run", "recommend": "recommend", "monitor": "monitor"}
PATIENCE = 12 * 3600  # seconds that a flow waits for the one before it


def cron(place: Place, units: Annotated[bool, option("systemd units instead of lines for crontab", "--systemd")] = False) -> None:
    """Prints lines for crontab, or systemd units, that run the three flows on their schedules on this machine."""
    place.checked_settings()  # refuses a wrong value before it is written down
    given = {"DATASET": place.dataset, "STORE": place.store} | {name.upper(): path for name, path in place.inputs.items()}
    given["PRODUCTION"] = "1" * (place.production or is_shared(place.root))  # what runs on a schedule is production
    given = {name: value for name, value in given.items() if value}
    for line in (systemd if units else crontab)(ROOT, read_operations(read_config()), given):
        console.out(line, highlight=False)


def crontab(root: Path, operations: Operations, source_settings: dict[str, str]) -> Iterator[str]:
    """One line for each flow."""
    yield "# Times are UTC. Where cron does not know CRON_TZ (Debian's), move the hours to the machine's own zone."
    yield "CRON_TZ=UTC"
    for flow, schedule in operations.schedule.items():
        command = shlex.join(_command("flock", "make", flow, root, source_settings))
        log = shlex.quote(str(root / "data" / "cron.log"))
        mail = f"|| echo {shlex.quote(f'{flow} failed; read the end of')} {log} >&2"  # cron mails what is said
        yield f"{schedule.cron} " + f"{command} >> {log} 2>&1 {mail}".replace("%", r"\%")  # % is a new line to cron


def systemd(root: Path, operations: Operations, source_settings: dict[str, str]) -> Iterator[str]:
    """A service and a timer for each flow, each under the name of its file."""
    flock, make = _find("flock"), _find("make")
    for flow, schedule in operations.schedule.items():
        name = f"{operations.unattended.project}-{flow}"
        command = " ".join(_quote(part) for part in _command(flock, make, flow, root, source_settings))
        yield f"# ~/.config/systemd/user/{name}.service"
        yield from ("[Unit]", f"Description={name}", "", "[Service]", "Type=oneshot", f"ExecStart={command}", "")
        yield f"# ~/.config/systemd/user/{name}.timer"
        yield from ("[Unit]", f"Description={name}", "", "[Timer]", f"OnCalendar={schedule.systemd}", "Persistent=true", "")
        yield from ("[Install]", "WantedBy=timers.target", "")
    timers = " ".join(f"{operations.unattended.project}-{flow}.timer" for flow in operations.schedule)
    yield f"# then: systemctl --user daemon-reload && systemctl --user enable --now {timers}"


def _command(flock: str, make: str, flow: str, root: Path, source_settings: dict[str, str]) -> list[str]:
    if flow not in VERBS:
        raise RecsysError(f"config: [schedule] names {flow}; flows with a verb are {', '.join(VERBS)}")
    given = [f"{name}={value}" for name, value in ({"UNATTENDED": "1"} | source_settings).items()]
    lock = str(root / "data" / ".cron.lock")
    return [flock, "--timeout", str(PATIENCE), lock, make, "--directory", str(root), VERBS[flow], *given]


def _find(program: str) -> str:
    """systemd wants whole paths."""
    return shutil.which(program) or f"/usr/bin/{program}"


def _quote(part: str) -> str:
    """As systemd.service(5) wants it."""
    escaped = part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != part or any(letter in part for letter in " \t'") else part
