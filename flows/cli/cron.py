"""The verb `cron`, which prints a schedule for one machine: crontab lines or systemd units that run the flows one at a time."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cli.production import ROOT, is_shared
from cli.terminal import console
from cli.variables import Place, option, read_config
from recsys import RecsysError
from recsys.settings import Operations, read_operations

VERBS = {"train": "run", "recommend": "recommend", "monitor": "monitor"}
MAX_WAIT = 12 * 3600  # seconds that a flow waits for another one to end
CRONTAB = """# {name}
# Times are UTC. If your cron does not support CRON_TZ (Debian's does not), convert the hours to the machine's zone.
CRON_TZ=UTC"""
UNITS = """# ~/.config/systemd/user/{unit}.service
[Unit]
Description={unit}

[Service]
Type=oneshot
ExecStart={command}

# ~/.config/systemd/user/{unit}.timer
[Unit]
Description={unit}

[Timer]
OnCalendar={schedule}
Persistent=true

[Install]
WantedBy=timers.target

"""


def cron(place: Place, units: Annotated[bool, option("systemd units instead of lines for crontab", "--systemd")] = False) -> None:
    """Prints crontab lines, or systemd units, that run the scheduled flows on this machine.

    Example: make cron DATASET=events EVENTS=data/events.csv, and paste the lines into `crontab -e`
    """
    place.checked_settings()  # refuses a wrong value before it is scheduled
    variables = {"DATASET": place.dataset, "STORE": place.store} | {name.upper(): path for name, path in place.inputs.items()}
    variables["PRODUCTION"] = "1" * (place.production or is_shared(place.root))  # scheduled runs are production
    variables = {name: value for name, value in variables.items() if value}
    config = read_config()
    operations = read_operations(config)
    name = "-".join([operations.unattended.project, *([place.dataset] if place.dataset not in ("", config["dataset"]) else [])])
    for line in (systemd if units else crontab)(ROOT, operations, variables, name):
        console.out(line, highlight=False)


def crontab(root: Path, operations: Operations, variables: dict[str, str], name: str) -> Iterator[str]:
    """Yields a head of three lines and one crontab line for each flow. variables: make's variables for all flows. name: tells the
    lines of several projects and datasets apart."""
    yield from CRONTAB.format(name=name).splitlines()
    for flow, schedule in operations.schedule.items():
        command = shlex.join(_command("flock", "make", flow, root, variables))
        log = shlex.quote(str(root / "data" / "cron.log"))
        mail = f"|| echo {shlex.quote(f'{flow} failed; read the end of')} {log} >&2"  # cron mails what is printed
        yield f"{schedule.cron} " + f"{command} >> {log} 2>&1 {mail}".replace("%", r"\%")  # cron takes % for a new line


def systemd(root: Path, operations: Operations, variables: dict[str, str], name: str) -> Iterator[str]:
    """Yields the lines of a systemd service and a timer for each flow, after the name of their file. name: of the units, before the
    flow's."""
    flock, make = (shutil.which(program) or f"/usr/bin/{program}" for program in ("flock", "make"))  # systemd needs full paths
    for flow, schedule in operations.schedule.items():
        unit = f"{name}-{flow}"
        command = " ".join(_quote(part) for part in _command(flock, make, flow, root, variables))
        yield from UNITS.format(unit=unit, command=command, schedule=schedule.systemd).splitlines()
    timers = " ".join(f"{name}-{flow}.timer" for flow in operations.schedule)
    yield f"# then: systemctl --user daemon-reload && systemctl --user enable --now {timers}"


def _command(flock: str, make: str, flow: str, root: Path, variables: dict[str, str]) -> list[str]:
    if flow not in VERBS:
        raise RecsysError(f"config: [schedule] names {flow}, which cannot be scheduled; pass one of {', '.join(VERBS)}")
    arguments = [f"{name}={value}" for name, value in ({"UNATTENDED": "1"} | variables).items()]
    lock = str(root / "data" / ".cron.lock")
    return [flock, "--timeout", str(MAX_WAIT), lock, make, "--directory", str(root), VERBS[flow], *arguments]


def _quote(part: str) -> str:
    """Quotes a part of a command by the rules of systemd.service(5)."""
    escaped = part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != part or any(letter in part for letter in " \t'") else part
