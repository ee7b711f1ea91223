"""Set up the checkout's own environment: `python -I infra/environment.py LEVEL`, run by the wrapper.

Only the standard library, and no other module of skyfuse: this runs before anything is installed. LEVEL is
run, dev or train; each has a lock file in requirements/ that holds the levels before it. What was installed
is remembered as copies in .venv/skyfuse/, which the wrapper compares: equal files, nothing to do.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent
_VENV: Final = _ROOT / ".venv"
_PYTHON: Final = _VENV / "bin" / "python"
_DONE: Final = _VENV / "skyfuse"
_LEVELS: Final = ("run", "dev", "train")
_WHAT: Final = {
    "run": "what skyfuse needs",
    "dev": "what the tests need",
    "train": "what training needs, torch included",
}
#: What .venv takes on disk at each level, MB.
_MB: Final = {"run": 800, "dev": 1600, "train": 7200}
#: Less than this is free (MB): what failed failed for want of room.
_FULL_MB: Final = 30
#: Seconds between two words of how far the set-up is.
_SAY_EVERY: Final = 10.0


class SetupError(Exception):
    """The environment cannot be set up; the message says why and how to mend it."""


def _say(text: str) -> None:
    print(f"skyfuse: {text}", file=sys.stderr, flush=True)


def _mb(folder: Path) -> int:
    """What a folder holds, MB; files that vanish meanwhile do not count."""
    held = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                held += os.lstat(os.path.join(root, name)).st_size
    return held // 1_000_000


def _free_mb() -> int:
    return shutil.disk_usage(_ROOT).free // 1_000_000


def _expect_room(level: str) -> None:
    """Raise SetupError where the disk has not enough left for a level."""
    needed, free = max(0, _MB[level] - _mb(_VENV)), _free_mb()
    if free < needed:
        raise SetupError(
            f"{_WHAT[level]} takes about {_size(_MB[level])} in {_VENV}, {_size(needed)} of it still to come;"
            f" its disk has {_size(free)} free: make room, or move the checkout to another disk"
        )


def _size(mb: int) -> str:
    return f"{mb} MB" if mb < 2000 else f"{mb / 1000:.1f} GB"


def _run(command: Sequence[str | PathLike[str]], *, told: bool = False, **extra: str) -> bool:
    """Whether the command ends well; `told`: how far it is is said now and then."""
    # Settings that would make pip install somewhere else than into this environment.
    away = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONPATH", "PYTHONHOME")
    environment = {key: value for key, value in os.environ.items() if key not in away}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment | extra) as process:
        try:
            while told:
                try:
                    process.wait(_SAY_EVERY)
                    break
                except subprocess.TimeoutExpired:
                    _say(f"{_size(_mb(_VENV))} so far")
            return process.wait() == 0
        except BaseException:
            process.kill()
            raise


def _works() -> bool:
    """Whether the environment has a Python that runs (the one it was made from may have been removed)."""
    if not os.access(_PYTHON, os.X_OK):
        return False
    probe: list[str | PathLike[str]] = [
        _PYTHON,
        "-I",
        "-c",
        "import sys; sys.exit(sys.version_info < (3, 11))",
    ]
    return subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0


def _create() -> None:
    if _VENV.exists() and not (_VENV / "pyvenv.cfg").exists() and any(_VENV.iterdir()):
        raise SetupError(f"{_VENV} is there but is no virtual environment: move it away")
    _say(f"making an environment with Python {sys.version.split()[0]} in {_VENV}")
    if _run([sys.executable, "-m", "venv", "--clear", _VENV]):
        return
    # Debian packs ensurepip apart from Python; the base Python's own pip can install from outside.
    bare = _run([sys.executable, "-m", "venv", "--clear", "--without-pip", _VENV])
    if bare and _run([sys.executable, "-m", "pip", "--python", _PYTHON, "install", "--quiet", "pip"]):
        return
    shutil.rmtree(_VENV, ignore_errors=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise SetupError(
        f"{sys.executable} cannot make a virtual environment. On Debian and Ubuntu: "
        f"apt-get install python{version}-venv (or python3-venv), then run this again"
    )


def _pip_options() -> list[str]:
    """pip's own settings (files and PIP_* variables) that say where packages come from, as options for uv."""
    result = subprocess.run(
        [_PYTHON, "-I", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    options: list[str] = []
    certificate = ""
    for line in result.stdout.splitlines():
        name, _, quoted = line.partition("=")
        value = quoted.strip().strip("'\"")
        key = name.rpartition(".")[2].replace("_", "-")
        if key == "index-url":
            options += ["--default-index", value]
        elif key in ("extra-index-url", "find-links"):
            option = {"extra-index-url": "--index", "find-links": "--find-links"}[key]
            for part in value.replace("\\n", " ").split():
                options += [option, part]
        elif key == "trusted-host":
            for host in value.replace("\\n", " ").split():
                options += ["--allow-insecure-host", host]
        elif key == "no-index" and value.lower() in ("1", "true", "yes", "on"):
            options.append("--no-index")
        elif key == "cert":
            certificate = value
    if certificate and "SSL_CERT_FILE" not in os.environ:
        os.environ["SSL_CERT_FILE"] = certificate
    return options


def _install(lock: Path) -> None:
    pip: list[str | PathLike[str]] = [_PYTHON, "-I", "-m", "pip", "install", "--disable-pip-version-check"]
    uv = _VENV / "bin" / "uv"
    has_uv = os.access(uv, os.X_OK) or _run([*pip, "--quiet", "-r", _ROOT / "requirements" / "uv.lock"])
    if has_uv:
        # The wheels of one lock file may lie on several indexes; the hashes say which files are right.
        command: list[str | PathLike[str]] = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            _PYTHON,
            "--index-strategy",
            "unsafe-best-match",
            # A lock file is complete: what it leaves out (pyproject.toml, tool.uv) is meant to stay out.
            "--no-deps",
            # As pip does: each process of the stack would compile them anew where Python may not write beside
            # them (PYTHONDONTWRITEBYTECODE, which images of containers often set), for seconds.
            "--compile-bytecode",
        ]
        if _run([*command, *_pip_options(), "-r", lock], told=True):
            return
        if _free_mb() >= _FULL_MB:
            _say("uv could not install everything; trying with pip")
    if _free_mb() < _FULL_MB or not _run([*pip, "--quiet", "--no-deps", "-r", lock], told=True):
        if _free_mb() < _FULL_MB:
            raise SetupError(
                f"the disk of {_ROOT} is full: {_WHAT[lock.stem]} takes about {_size(_MB[lock.stem])} there."
                " Make room and run this again"
            )
        raise SetupError(
            f"cannot install {lock.relative_to(_ROOT)}; see above. It needs the Python package index, "
            "or an index of your own named in pip's settings (PIP_INDEX_URL). "
            "What was fetched is kept: run this again"
        )


def _remember(level: str) -> None:
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(
        subprocess.run(
            [_PYTHON, "-I", "-c", where], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    # The checkout itself: on the path, never copied.
    (site / "skyfuse.pth").write_text(f"{_ROOT}\n")
    _DONE.mkdir(exist_ok=True)
    for each in _LEVELS[: _LEVELS.index(level) + 1]:
        shutil.copyfile(_ROOT / "requirements" / f"{each}.lock", _DONE / f"{each}.lock")
    (_DONE / "where").write_text(f"{_ROOT}\n")


def _up_to_date(level: str) -> bool:
    try:
        lock = (_ROOT / "requirements" / f"{level}.lock").read_bytes()
        return (_DONE / f"{level}.lock").read_bytes() == lock and (
            _DONE / "where"
        ).read_text() == f"{_ROOT}\n"
    except FileNotFoundError:
        return False


def _exclusively(work: Callable[[], None]) -> None:
    """Do the work while no other skyfuse does it in this checkout."""
    lock = os.open(_ROOT / "requirements", os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another skyfuse that is setting up this checkout")
            fcntl.flock(lock, fcntl.LOCK_EX)
        work()
    finally:
        os.close(lock)


def set_up(level: str) -> None:
    """Bring .venv to `level`; nothing to do where it is there already. Raises SetupError."""

    def work() -> None:
        usable = _works()
        if usable and _up_to_date(level):
            return  # another invocation did it while we waited
        began = time.monotonic()
        _expect_room(level)
        if not usable:
            _create()
        _say(f"installing {_WHAT[level]} (about {_size(_MB[level])} on disk, once)")
        _install(_ROOT / "requirements" / f"{level}.lock")
        _remember(level)
        _say(f"ready after {time.monotonic() - began:.0f} s")

    _exclusively(work)


def main() -> int:
    """Entry point for the wrapper."""
    try:
        set_up(sys.argv[1])
    except SetupError as error:
        _say(str(error))
    except OSError as error:
        full = f"; {_WHAT[sys.argv[1]]} takes about {_size(_MB[sys.argv[1]])} there"
        _say(
            f"cannot set up the environment in {_ROOT}: {error}{full if error.errno == errno.ENOSPC else ''}"
        )
    except KeyboardInterrupt:
        _say("interrupted; what was fetched is kept")
        return 130
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
