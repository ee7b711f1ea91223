"""Kafka headers by which the gateway says of a record how it arrived."""

from typing import Final

#: All of them begin so.
PREFIX: Final = "x-gateway-"
#: By which adapter and from where: of what waits in quarantine, and of dead letters.
ADAPTER_HEADER: Final = f"{PREFIX}adapter"
ORIGIN_HEADER: Final = f"{PREFIX}origin"
#: Digest of the payload that a reading is of.
RAW_HEADER: Final = f"{PREFIX}raw"
#: In the place of an adapter's name where it is a picture.
FRAME: Final = "frame"
