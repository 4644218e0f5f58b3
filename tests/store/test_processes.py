"""Processes that end together, scratch that they leave, and leases that keep a second run out."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.scratch import LOCK, PREFIX, scratch
from conftest import Fork, assert_refused
from recsys import RecsysError
from recsys.store.leases import lease
from recsys.store.processes import is_dead, own_name, started
from recsys.store.snapshots import Store, open_store

FLOWS = str(Path(__file__).resolve().parents[2] / "flows")
HOLD = "import sys, time; from cli.scratch import scratch\nwith scratch() as folder: print(folder, flush=True); time.sleep(600)"


def wait_for(happened: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """A process that has ended and is waited for by nobody here counts as ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        os.kill(pid, 0)
        return True
    return False


@contextlib.contextmanager
def python(code: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that knows the library; killed at the end."""
    variables = os.environ | {"PYTHONPATH": FLOWS} | environment
    with subprocess.Popen([sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


# Names of processes


def test_a_process_is_dead_once_it_has_ended_or_its_id_is_used_again() -> None:
    with python("") as process:
        process.wait()
    assert is_dead(f"{process.pid}.")
    assert not is_dead(own_name())
    assert not is_dead(f"{os.getpid()}.")
    if Path("/proc/self/stat").exists():
        assert is_dead(f"{os.getpid()}.1")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells zombies")
def test_a_zombie_is_dead() -> None:
    """In a container, the first process often reaps others late or never."""
    with python("") as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(f"{process.pid}.")


# Trees of processes

STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def tree(parent: str, child: str) -> list[str]:
    """A process that starts another and tells its id; what each does first."""
    inner = f"{child}\nimport time; print('up', flush=True); time.sleep(600)"
    start = f"child = subprocess.Popen([sys.executable, '-c', {inner!r}], stdout=subprocess.PIPE); child.stdout.readline()"
    outer = f"{parent}\nimport subprocess, sys, time\n{start}; print(child.pid, flush=True); time.sleep(600)"
    return [sys.executable, "-c", outer]


@pytest.mark.parametrize(("parent", "child"), [("", ""), ("", STUBBORN), (STUBBORN, STUBBORN)])
def test_all_that_a_process_started_ends_with_its_block(monkeypatch: pytest.MonkeyPatch, parent: str, child: str) -> None:
    monkeypatch.setattr("recsys.store.processes.GRACE", 0.5)
    with started(tree(parent, child), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        pids = [process.pid, int(read_line(process))]
        assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)


def test_a_process_that_ended_by_itself_is_not_waited_for() -> None:
    with started([sys.executable, "-c", "raise SystemExit(7)"]) as process:
        assert process.wait() == 7


UP = "print('up', flush=True)"
ORPHANED = f"import os, time; parent = os.getppid(); {UP}\nwhile os.getppid() == parent: time.sleep(0.05)"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends processes with their parent")
@pytest.mark.parametrize(("before", "after"), [("", UP), (ORPHANED, "pass")], ids=["after its start", "during its start"])
def test_the_tree_dies_with_its_parent(before: str, after: str) -> None:
    late = "from recsys.store.processes import end_with_parent; end_with_parent()"
    inner = f"{before}\nimport time; {late}; {after}; time.sleep(600)"
    outer = f"""
import subprocess, sys, time
from recsys.store.processes import started
with started([sys.executable, "-c", {inner!r}], stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    print(process.pid, flush=True)
    time.sleep(600)
"""
    with python(outer) as process:
        pid = int(read_line(process))
        process.kill()
    wait_for(lambda: not is_alive(pid), "the child lives on")


# Scratch


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files are made."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    tempfile.tempdir = None


def test_temporary_files_are_made_in_scratch_and_gone_with_it(place: Path) -> None:
    with scratch() as folder:
        (Path(tempfile.mkdtemp()) / "left.bin").touch()
        with python("import tempfile; print(tempfile.mkdtemp())") as process:
            assert Path(read_line(process)).parent == folder
        assert len(list(folder.iterdir())) == 3
    assert list(place.iterdir()) == []
    assert tempfile.gettempdir() == str(place)


def test_scratch_is_gone_after_an_error(place: Path) -> None:
    with pytest.raises(KeyError), scratch():
        raise KeyError
    assert list(place.iterdir()) == []


def test_a_process_joins_the_scratch_of_the_one_that_started_it(place: Path) -> None:
    with scratch() as folder:
        with python(HOLD) as process:
            assert read_line(process) == str(folder)
        with scratch() as again:
            assert again == folder
        assert folder.exists()


def test_the_scratch_of_a_killed_process_is_swept_and_that_of_a_living_one_kept(place: Path) -> None:
    with python(HOLD) as killed, python(HOLD) as living:
        folders = [Path(read_line(process)) for process in (killed, living)]
        killed.kill()
        killed.wait()
        with scratch():
            assert [folder.exists() for folder in folders] == [False, True]


def test_the_lock_of_scratch_is_removed_last(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, what a killed removal leaves would be taken for a folder that is being made."""
    removed, remove = list[str](), os.unlink

    def watched(path: str | Path, **options: int) -> None:
        removed.append(Path(path).name)
        remove(path, **options)

    with scratch() as folder:
        for number in range(20):
            (folder / f"{number}.txt").touch()
        monkeypatch.setattr("os.unlink", watched)
    monkeypatch.undo()
    assert removed[20:] == [LOCK]


def test_scratch_is_kept_while_a_process_that_joined_it_lives(place: Path) -> None:
    with python(HOLD) as owner:
        folder = Path(read_line(owner))
        with python(HOLD, TMPDIR=str(folder)) as joined:
            read_line(joined)
            owner.kill()
            owner.wait()
            with scratch():
                assert folder.exists()
        with scratch():
            assert not folder.exists()


def test_folders_of_others_are_left_alone(place: Path) -> None:
    for name in (f"{PREFIX}new", "other"):
        (place / name).mkdir()
    (place / "other" / LOCK).touch()
    old = place / f"{PREFIX}old"
    old.mkdir()
    os.utime(old, (0, 0))
    with scratch():
        pass
    assert sorted(path.name for path in place.iterdir()) == sorted(["other", f"{PREFIX}new"])


# Leases


@pytest.mark.both_stores
def test_of_two_runs_of_a_flow_the_second_is_refused_until_the_first_has_ended(store: Store, root: str) -> None:
    other = open_store(root, "shop")
    with lease(store, "TrainFlow"):
        with (
            pytest.raises(RecsysError, match=r"another run of TrainFlow in .* is under way, process \d+ on "),
            lease(other, "TrainFlow"),
        ):
            pass
        with lease(other, "RecommendFlow"), lease(open_store(root, "other"), "TrainFlow"):
            pass
    with lease(other, "TrainFlow"):
        pass
    assert store.notes("runs") == []


def test_a_run_that_failed_gives_its_lease_back(store: Store) -> None:
    with pytest.raises(KeyError), lease(store, "TrainFlow"):
        raise KeyError
    with lease(store, "TrainFlow"):
        pass


def test_a_killed_run_keeps_nobody_out(tmp_path: Path) -> None:
    code = f"""
import os
from recsys.store.leases import lease
from recsys.store import open_store
with lease(open_store({str(tmp_path)!r}, "shop"), "TrainFlow"):
    os.kill(os.getpid(), 9)
"""
    with python(code) as process:
        process.wait()
    store = open_store(str(tmp_path), "shop")
    assert store.notes("runs") == ["runs/TrainFlow.json"]
    with lease(store, "TrainFlow"):
        pass
    assert store.notes("runs") == []


@pytest.mark.both_stores
def test_a_run_of_another_host_keeps_others_out_while_it_gives_signs_of_life(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("recsys.store.leases.host", lambda: "elsewhere")
        elsewhere.setattr("recsys.store.leases.BEAT", 0.05)
        with lease(store, "TrainFlow"):
            elsewhere.setattr("recsys.store.leases.host", lambda: "here")
            elsewhere.setattr("recsys.store.leases.EXPIRES", 5)
            time.sleep(1.2)
            with pytest.raises(RecsysError, match="on elsewhere since"), lease(store, "TrainFlow"):
                pass
            elsewhere.setattr("recsys.store.leases.EXPIRES", -1)
            with lease(store, "TrainFlow"):
                pass


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"process": "x", "host": "", "since": ""}'])
def test_a_damaged_lease_keeps_nobody_out(store: Store, damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.store.leases.host", lambda: "")
    store.backend.write("runs/TrainFlow.json", damage)
    with lease(store, "TrainFlow"):
        pass


# Runs


def temporary(fork: Fork) -> dict[str, str]:
    """A place for temporary files of its own."""
    (fork.root / "tmp").mkdir(exist_ok=True)
    return {"TMPDIR": str(fork.root / "tmp")}


def test_a_second_run_is_refused_at_its_start(tmp_path: Path) -> None:
    fork = Fork(tmp_path)
    with lease(open_store(str(fork.stores), "shop"), "TrainFlow"):
        assert_refused(fork.run("run"), "another run of TrainFlow", "wait for its end")
    assert not (fork.root / "data" / "metaflow").exists()


def processes_of(fork: Fork) -> list[str]:
    """What runs in a fork or works on its files: ids and command lines."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            found += [f"{process.name} {words}"] if str(fork.root) in f"{words} {os.readlink(process / 'cwd')}" else []
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what runs, and ends processes with their parent")
@pytest.mark.parametrize(
    ("step", "number", "to"),
    [
        ("start", signal.SIGTERM, "make"),
        ("build_features", signal.SIGTERM, "make"),
        ("build_features", signal.SIGKILL, "command"),
        ("train", signal.SIGINT, "group"),
    ],
)
def test_a_run_that_is_stopped_leaves_nothing(tmp_path: Path, step: str, number: int, to: str) -> None:
    fork = Fork(tmp_path)
    with fork.start("run", temporary(fork), DATASET="shop") as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(f"running {step}"):
                break
        wait_for(lambda: len(processes_of(fork)) >= 3, "no step runs")
        time.sleep(2)  # dbt is on its way
        if to == "group":
            os.killpg(process.pid, number)
        else:
            command = next(line for line in processes_of(fork) if "flows/cli" in line)
            os.kill(process.pid if to == "make" else int(command.split()[0]), number)
        _, errors = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in errors
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    wait_for(lambda: not processes_of(fork), f"these run on: {processes_of(fork)}")
    assert fork.current() is None
    if number != signal.SIGKILL:
        assert [line.partition(";")[0] for line in told] == [f"error: stopped by {signal.Signals(number).name}"]
        assert step == "start" or "make resume" in told[0], "steps have ended, from which the run can go on"
        assert list((fork.root / "tmp").iterdir()) == []
        assert list((fork.store() / ".drafts").glob("*")) == []
        assert list((fork.store() / "runs").glob("*")) == []
    assert_refused(fork.make("run", temporary(fork), AS_OF="1999-01-01"))  # a next run, however it ends
    assert list((fork.root / "tmp").iterdir()) == []
    assert list((fork.store() / ".drafts").glob("*")) == []
