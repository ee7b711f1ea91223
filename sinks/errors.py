"""What can go wrong on the way into a sink.

StreamError
├── PointError          an estimate cannot be expressed as points; the record is at fault
└── SinkSettingError    a sink's settings cannot be right
"""

from streams.errors import StreamError


class PointError(StreamError):
    """An estimate (or a station) cannot be expressed as points."""


class SinkSettingError(StreamError):
    """A sink's settings cannot be right; says which and how to mend them."""
