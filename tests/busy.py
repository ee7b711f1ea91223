"""How much longer than on an idle machine all takes now: what a test says of time holds on a busy one too."""

import time
from typing import Final

_WORK_S: Final = 0.05


def stretched(seconds: float) -> float:
    """`seconds` of an idle machine in those of this one, by how long a piece of work waits for the processor.

    Asked for when the time is over, so that a limit is no wider than it must be. Where others work, what
    several processes do one after the other is stretched more than one's own work is: three times as much.
    """
    began, worked = time.perf_counter(), time.thread_time()
    while time.thread_time() < worked + _WORK_S:
        pass
    waited = (time.perf_counter() - began) / _WORK_S
    return seconds * (1.0 if waited < 1.5 else 3.0 * waited)
