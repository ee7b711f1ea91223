"""Child processes that leave nothing behind, and a supervisor that restarts those that crash.

Every child leads its own process group (a Ctrl-C in the terminal reaches only us, who then stop the children
in order) and, on Linux, is killed by the kernel when we die without a chance to tidy up.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Final, Literal, Self

from infra.errors import StackError

_LIFELINE: Final = Path(__file__).with_name("lifeline.py")
# The kernel's parent-death signal follows the *thread* that forked, so one thread that lives as long as
# the interpreter starts every child, whichever thread asks.
_starter: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starts-children")


class Child:
    """A running program in a process group of its own, its output appended to `log`."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, log: Path) -> None:
        self._process = process
        self._buried = False
        self.name = name
        self.log = log

    @property
    def pid(self) -> int:
        """Process id; also the id of the process group."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit code (negative: the signal), or None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Exit code once it ended; None when `timeout` seconds passed first."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    def interrupt(self) -> None:
        """Ask the program to end (SIGTERM to it alone)."""
        if self.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait until the kernel has collected it."""
        # The group outlives its leader while members live, so it is signalled also when the leader has gone;
        # but never again after that, since the number may then belong to somebody else.
        if not self._buried:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._buried = True

    def stop(self, grace: float = 10.0) -> int:
        """End the program: SIGTERM, after `grace` seconds SIGKILL; also whatever is left of its group."""
        self.interrupt()
        self.wait(grace)
        self.kill()
        return self._process.wait()


def spawn(
    argv: Sequence[str | Path],
    *,
    name: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a program that cannot outlive us. Raises StackError where it is not there or cannot start."""
    program = shutil.which(str(argv[0]))
    if program is None:
        raise StackError(
            f"{name}: no program {argv[0]} to run; is the environment complete? (skyfuse doctor)"
        )
    command = [sys.executable, "-I", "-S", str(_LIFELINE), str(os.getpid()), program, *map(str, argv[1:])]

    def start() -> subprocess.Popen[bytes]:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )

    try:
        return Child(_starter.submit(start).result(), name, log)
    except OSError as error:
        raise StackError(f"{name}: cannot start {program}: {error}") from error


def tail(log: Path, lines: int = 15, start: int = 0) -> str:
    """The last lines of a log file from byte `start` on, for an error message ("" where there is none)."""
    with suppress(OSError), log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - 64 * 1024))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    return ""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block by an exception, as Ctrl-C does: `finally` runs. Main thread only.

    Ctrl-C itself too: a shell starts background jobs with SIGINT ignored, and Python leaves it so.
    """

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


#: How long a server may take until it answers, s. On an idle machine it is a second; one that gets little of
#: a busy machine is slow, not broken. One that ends is told of at once.
PATIENCE_S: Final = 120.0


class LocalServer:
    """A server of this machine's own: started on entry, stopped on exit. Its `start` sets `_child`."""

    def __init__(self) -> None:
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._child is not None and self._child.poll() is None

    def start(self, timeout: float = PATIENCE_S) -> None:
        """Start and wait until it answers, for so many seconds."""
        raise NotImplementedError

    def stop(self, timeout: float = 5.0) -> None:
        """Stop, by SIGKILL after so many seconds; nothing where it does not run."""
        if self._child is not None:
            self._child.stop(timeout)
            self._child = None

    def kill(self) -> None:
        """kill -9."""
        if self._child is not None:
            self._child.kill()
            self._child = None


@dataclass(frozen=True)
class ProcessStatus:
    """What the supervisor knows of one process."""

    name: str
    state: Literal["starting", "running", "waiting", "ended", "stopped"]
    pid: int | None = None
    restarts: int = 0
    #: of the last run that ended; negative: the signal
    exit_code: int | None = None
    #: monotonic seconds of the last start
    since: float = 0.0


class Supervisor:
    """Keeps processes running: restarts each that crashes, later and later while it goes on crashing.

    A process that ends with 0 has finished and is not restarted. `on_crash` is told (from the watching
    thread) the status and the end of the log of each run that failed.
    """

    #: Seconds before the first restart. Doubled, up to LONGEST_PAUSE, by each crash of a run under STEADY.
    FIRST_PAUSE: Final = 0.5
    LONGEST_PAUSE: Final = 30.0
    STEADY: Final = 60.0

    def __init__(self, log_dir: Path, on_crash: Callable[[ProcessStatus, str], None] | None = None) -> None:
        self._log_dir = log_dir
        self._on_crash = on_crash
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._status: dict[str, ProcessStatus] = {}
        self._children: dict[str, Child] = {}
        self._watchers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def add(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Child:
        """Start a process and watch it from now on; its first run is returned. Raises StackError."""
        if name in self._status:
            raise StackError(f"a process named {name} is already supervised")
        child = self._start(name, argv, env)
        watcher = threading.Thread(
            target=self._watch, args=(child, argv, env), name=f"watch-{name}", daemon=True
        )
        self._watchers.append(watcher)
        watcher.start()
        return child

    def status(self) -> list[ProcessStatus]:
        """All processes, in the order they were added."""
        with self._lock:
            return list(self._status.values())

    def wait(self, name: str, timeout: float) -> ProcessStatus:
        """The status of `name` once it finished with 0, or as it is after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            status = self._status[name]
            if status.state in ("ended", "stopped") or time.monotonic() >= deadline:
                return status
            self._stopping.wait(0.05)

    def stop(self, grace: float = 10.0) -> None:
        """End all processes, SIGTERM to all first, then wait; nothing is left when this returns."""
        with self._lock:
            self._stopping.set()
            children = list(self._children.values())
        for child in children:
            child.interrupt()
        deadline = time.monotonic() + grace
        for child in children:
            child.stop(max(0.0, deadline - time.monotonic()))
        for watcher in self._watchers:
            watcher.join()

    def _start(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None) -> Child:
        with self._lock:  # so that stop() cannot miss a child that is being started
            if self._stopping.is_set():
                raise StackError(f"{name} is not started: the supervisor was stopped")
            child = spawn(argv, name=name, log=self._log_dir / f"{name}.log", env=env)
            self._children[name] = child
            before = self._status.get(name, ProcessStatus(name, "starting", restarts=-1))
            self._status[name] = replace(
                before, state="running", pid=child.pid, restarts=before.restarts + 1, since=time.monotonic()
            )
            return child

    def _watch(self, first: Child, argv: Sequence[str | Path], env: Mapping[str, str] | None) -> None:
        child: Child | None = first
        pause = self.FIRST_PAUSE
        while True:
            if child is not None:
                code = child.wait()
                child.kill()  # what the run left in its group
                status = self._ended(first.name, code)
                if status.state != "waiting":
                    return
                if self._on_crash is not None:
                    self._on_crash(status, tail(child.log))
                if time.monotonic() - status.since >= self.STEADY:
                    pause = self.FIRST_PAUSE
            if self._stopping.wait(pause):
                self._ended(first.name, status.exit_code)
                return
            pause = min(self.LONGEST_PAUSE, pause * 2)
            try:
                child = self._start(first.name, argv, env)
            except StackError as error:  # no memory, no file handles …: try again later
                child = None
                if self._on_crash is not None and not self._stopping.is_set():
                    self._on_crash(status, str(error))

    def _ended(self, name: str, code: int | None) -> ProcessStatus:
        with self._lock:
            state: Literal["stopped", "ended", "waiting"] = (
                "stopped" if self._stopping.is_set() else "ended" if code == 0 else "waiting"
            )
            self._status[name] = status = replace(self._status[name], state=state, pid=None, exit_code=code)
            return status
