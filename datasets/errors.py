"""What `datasets` raises, and the sources that send what lies there.

SourceError    a source cannot be read, or what it sent was not confirmed by the broker
LayoutError    a folder does not follow the layout it was said to follow
"""

from schemas.errors import SkyfuseError


class SourceError(SkyfuseError):
    """A source cannot be read, or what it sent was not confirmed by the broker."""


class LayoutError(SkyfuseError):
    """A folder of frames and readings does not follow the layout it was said to follow."""
