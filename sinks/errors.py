"""What can go wrong on the way into a sink.

StreamError
├── PointError          an estimate cannot be expressed as points; the record is at fault
├── SinkSettingError    a sink's settings cannot be right
└── SinkStopped         the worker is stopping while the sink waits: nothing was acknowledged
"""

from streams.errors import StreamError


class PointError(StreamError):
    """An estimate (or a station) cannot be expressed as points."""


class SinkSettingError(StreamError):
    """A sink's settings cannot be right; says which and how to mend them."""


class SinkStopped(StreamError):
    """The worker is stopping while a sink waits for its engine: re-read the batch, do not acknowledge."""
