"""Children: restarted when they crash, and never left behind, however the parent ends."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from infra.errors import StackError
from infra.stack.cache import EmbeddedCache
from infra.stack.processes import Child, ProcessStatus, Supervisor, spawn, tail

_PATIENCE = 120.0
_FOREVER = "import signal; signal.pause()"
#: Ends only by force: ignores SIGTERM, and has a child of its own in its group.
_STUBBORN = (
    "import os, signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    f"subprocess.Popen([sys.executable, '-c', {_FOREVER!r}]); print('ready', flush=True); signal.pause()"
)
#: Starts children in every way skyfuse does, one from a thread that has ended, and says their pids.
_PARENT = f"""
import json, signal, sys, threading
from pathlib import Path
from infra.stack.cache import EmbeddedCache
from infra.stack.processes import Supervisor, ended_by_signals, spawn

folder, pids = Path(sys.argv[1]), []
with ended_by_signals(), EmbeddedCache(folder / "cache") as cache, Supervisor(folder) as supervisor:
    pids.append(cache._child.pid)
    pids.append(supervisor.add("worker", [sys.executable, "-c", {_FOREVER!r}]).pid)
    start = lambda: pids.append(supervisor.add("other", [sys.executable, "-c", {_FOREVER!r}]).pid)
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    print(json.dumps(pids), flush=True)
    signal.pause()
"""


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.01)


def _gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _ready(child: Child) -> bool:
    return "ready" in tail(child.log)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_outlives_the_parent(tmp_path: Path, ending: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        try:
            assert parent.stdout is not None
            pids = json.loads(parent.stdout.readline())
            assert len(pids) == 3
            assert not any(_gone(pid) for pid in pids)
            parent.send_signal(ending)
            parent.wait(_PATIENCE)
        finally:
            parent.kill()
    # A clean end leaves nothing at once; after kill -9 the kernel needs a moment.
    if ending is not signal.SIGKILL:
        assert all(_gone(pid) for pid in pids)
    _until(lambda: all(_gone(pid) for pid in pids), "the children's end")


def test_stop_ends_the_whole_group_by_force_if_need_be(tmp_path: Path) -> None:
    child = spawn([sys.executable, "-c", _STUBBORN], name="stubborn", log=tmp_path / "log")
    _until(lambda: _ready(child), "the child's start")
    group = [child.pid, *(process.pid for process in psutil.Process(child.pid).children())]
    assert len(group) == 2
    assert child.stop(grace=0.2) == -signal.SIGKILL
    _until(lambda: all(_gone(pid) for pid in group), "the end of the group")


def test_a_crash_is_restarted_and_reported_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervisor, "FIRST_PAUSE", 0.01)
    crashes: list[tuple[ProcessStatus, str]] = []
    counter = tmp_path / "runs"
    # Crashes twice, then ends well.
    script = (
        f"import pathlib, sys; f = pathlib.Path({str(counter)!r});"
        "n = int(f.read_text()) if f.exists() else 0;"
        "f.write_text(str(n + 1)); print(f'run {n}'); sys.exit(3 if n < 2 else 0)"
    )
    with Supervisor(tmp_path, on_crash=lambda *crash: crashes.append(crash)) as supervisor:
        supervisor.add("flaky", [sys.executable, "-c", script])
        status = supervisor.wait("flaky", _PATIENCE)
    assert (status.state, status.restarts, status.exit_code) == ("ended", 2, 0)
    assert [crash.exit_code for crash, _ in crashes] == [3, 3]
    assert crashes[0][1].splitlines()[-1] == "run 0"
    assert crashes[1][1].splitlines()[-1] == "run 1"


def test_a_killed_worker_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "FIRST_PAUSE", 0.01)
    with Supervisor(tmp_path) as supervisor:
        first = supervisor.add("worker", [sys.executable, "-c", _FOREVER])
        first.kill()
        _until(lambda: supervisor.status()[0].restarts == 1, "the restart")
        second = supervisor.status()[0].pid
        assert second is not None
        assert second != first.pid
        assert supervisor.status()[0].exit_code == -signal.SIGKILL
    assert _gone(second)
    assert supervisor.status()[0].state == "stopped"


def test_stop_during_a_pause_does_not_wait_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "FIRST_PAUSE", 3600.0)
    crashed = threading.Event()
    with Supervisor(tmp_path, on_crash=lambda *_: crashed.set()) as supervisor:
        supervisor.add("worker", [sys.executable, "-c", "raise SystemExit(1)"])
        assert crashed.wait(_PATIENCE)
    assert supervisor.status()[0].state == "stopped"
    with pytest.raises(StackError, match="was stopped"):
        supervisor.add("late", [sys.executable, "-c", ""])


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no program /nowhere/java to run"):
        spawn(["/nowhere/java"], name="Apache Kafka", log=tmp_path / "log")
    with Supervisor(tmp_path) as supervisor:
        supervisor.add("one", [sys.executable, "-c", _FOREVER])
        with pytest.raises(StackError, match="already supervised"):
            supervisor.add("one", [sys.executable, "-c", _FOREVER])


def test_the_cache_serves_forgets_and_comes_back(tmp_path: Path) -> None:
    import redis

    with EmbeddedCache(tmp_path / "cache") as cache:
        with redis.Redis.from_url(cache.url, protocol=3) as client:
            assert client.set("latest", "1")
            assert client.get("latest") == b"1"
        url = cache.url
        cache.kill()
        assert not cache.running
        cache.start()
        assert cache.url == url
        with redis.Redis.from_url(cache.url, protocol=3) as client:
            assert client.get("latest") is None
    assert not cache.running
