"""What `datasets` raises, and the sources that send what lies there.

SourceError    a source cannot be read, or what it sent was not confirmed by the broker
LayoutError    a folder does not follow the layout it was said to follow
"""

from collections.abc import Sequence

from schemas.errors import SkyfuseError


class SourceError(SkyfuseError):
    """A source cannot be read, or what it sent was not confirmed by the broker."""


class LayoutError(SkyfuseError):
    """A folder of frames and readings does not follow the layout it was said to follow."""


def because(problems: Sequence[str]) -> str:
    """Where there is nothing: why, as far as the first thing tells that was left out; begins with ';'."""
    return f"; the first thing left out: {problems[0]}" if problems else ""
