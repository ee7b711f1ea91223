"""What a way into the gateway is, what it hands over to, and how one serves many entries at once."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from sources.gateway.arrival import Arrival, Picture, Receipt

E = TypeVar("E")


class Way(Protocol):
    """A way in: serves until it is cancelled. What it raises is logged, and it is begun again."""

    name: str

    async def serve(self) -> None:
        """Take in what comes, until cancelled."""


class TakesPayloads(Protocol):
    """A reception, or one that keeps on disk what Kafka does not take."""

    async def take(self, arrival: Arrival) -> Receipt:
        """Publish a payload. Raises KafkaAway, NotAllowed, SpoolFull."""


class TakesArrivals(TakesPayloads, Protocol):
    """A reception: what all ways in hand over to."""

    async def take_picture(self, picture: Picture) -> Receipt:
        """Publish a picture. Raises KafkaAway, NotAllowed."""


async def side_by_side(
    entries: Mapping[str, E],
    serve: Callable[[E], Coroutine[Any, Any, None]],
    after: asyncio.Event | None = None,
) -> None:
    """Serve each entry in a task of its own, until cancelled.

    Args:
        entries: by the name of its task, such as `camera roof/main`.
        serve: serves one.
        after: set when the station records have been read, which say where and in which zone they are: what
            is fetched before that might be refused, though it is understood a moment later.
    """
    if after is not None:
        await after.wait()
    async with asyncio.TaskGroup() as group:
        for name, entry in entries.items():
            group.create_task(serve(entry), name=name)
