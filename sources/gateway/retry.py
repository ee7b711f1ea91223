"""A dead letter of the gateway taken in once more: by an adapter that has learned, or with mended bytes."""

from collections.abc import Mapping, Sequence

from settings.sections import GatewaySettings
from sources.gateway.arrival import Picture
from sources.gateway.letters import arrival_again
from sources.gateway.reception import Reception
from streams.stage import Out


async def take_again(
    letter: Mapping[str, str], body: bytes, settings: GatewaySettings, prefix: str
) -> list[Out]:
    """The records that come of it now.

    Args:
        letter: its headers as text, without those of its story.
        body: its bytes.
        settings, prefix: as of a reception.

    Raises KeyError or ValueError where the headers are not complete.
    """
    collects = _Collects()
    reception = Reception(collects, settings, prefix)
    arrival = arrival_again(letter, body)
    if isinstance(arrival, Picture):
        await reception.take_picture(arrival)
    else:
        await reception.take(arrival)
    return collects.records


class _Collects:
    """Publishes nothing: whoever asked does."""

    def __init__(self) -> None:
        self.records: list[Out] = []

    async def publish(self, records: Sequence[Out]) -> None:
        self.records += records
