"""Run a program that dies with its parent: `python -I -S lifeline.py PARENT_PID PROGRAM ARGS...`.

Run by path, never imported. It asks the kernel (Linux) to kill this process when the thread that started it
ends, then becomes PROGRAM. A parent killed by `kill -9` can tidy up nothing; the kernel can.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _run(parent: int, argv: list[str]) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"lifeline: prctl: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:  # it died before we asked
            sys.exit(f"lifeline: parent {parent} is gone")
    try:
        os.execv(argv[0], argv)
    except OSError as error:
        sys.exit(f"lifeline: cannot run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    _run(int(sys.argv[1]), sys.argv[2:])
