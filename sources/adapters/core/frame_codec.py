"""A decoder of the raw bytes that a LoRaWAN device sends, as adapters call it."""

from datetime import datetime
from typing import Any, NamedTuple, Protocol


class Decoded(NamedTuple):
    """What a decoder makes of a frame, and what it warns of."""

    data: dict[str, Any]
    warnings: tuple[str, ...] = ()


class FrameCodec(Protocol):
    """A decoder of raw frames, such as a vendor's `decodeUplink`."""

    @property
    def name(self) -> str:
        """For people: its file."""

    def decode(self, frame: bytes, port: int, received_at: datetime) -> Decoded:
        """What a frame means that came on a port (fPort). Raises Refused."""
