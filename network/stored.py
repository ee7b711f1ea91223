"""What is stored of a region: its state as it is."""

from typing import Final

from network.region import Region
from schemas.state import Codec

#: Equal states have equal bytes, and a state that was stored and read goes on to the same bytes.
REGION: Final = Codec("network region", Region)
