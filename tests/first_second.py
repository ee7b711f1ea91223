"""Coverage is measured in the first second of each test: `coverage run -m pytest -p tests.first_second`.

Tracing makes Python twice as slow. What a test reaches, it has reached in its first examples: the others need
not be traced.
"""

import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final
from warnings import catch_warnings, simplefilter

import pytest
from coverage import Coverage
from coverage.exceptions import CoverageWarning

#: Of the processor, not of the clock: what waits goes on being measured, and a busy machine changes nothing.
_MEASURED_S: Final = 1.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    measuring = Coverage.current()
    if measuring is None:
        return (yield)
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        del number, frame
        measuring.stop()
        stopped = True

    signal.signal(signal.SIGVTALRM, stop)
    signal.siginterrupt(signal.SIGVTALRM, False)
    signal.setitimer(signal.ITIMER_VIRTUAL, _MEASURED_S)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if stopped:
            with catch_warnings():
                simplefilter("ignore", CoverageWarning)  # that modules were imported before it began
                measuring.start()
