"""A reception whose broker is a list: what it was given, and whether it confirms."""

from collections.abc import Callable, Sequence
from typing import Any

from schemas.dead_letter import DeadLetter
from settings.sections import GatewaySettings
from sources.adapters.core.frame_codec import FrameCodec
from sources.gateway.admission import Admission
from sources.gateway.arrival import Arrival
from sources.gateway.errors import KafkaAway
from sources.gateway.reception import ArrivalListener, Reception
from streams.stage import Out
from streams.topics import DEAD_LETTERS, FRAMES, READINGS

#: 2026-08-21T10:00:00Z
NOW = 1_787_306_400_000


class Log:
    """Confirms at once while `there`."""

    def __init__(self) -> None:
        self.records: list[Out] = []
        self.there = True

    async def publish(self, records: Sequence[Out]) -> None:
        if not self.there:
            raise KafkaAway("Kafka is away")
        self.records += records

    def on(self, topic: str) -> list[Out]:
        return [record for record in self.records if record.topic == topic]

    @property
    def readings(self) -> list[Out]:
        return self.on(READINGS.name)

    @property
    def frames(self) -> list[Out]:
        return self.on(FRAMES.name)

    @property
    def letters(self) -> list[tuple[DeadLetter, bytes | None]]:
        return [(DeadLetter.from_headers(one.headers), one.value) for one in self.on(DEAD_LETTERS.name)]


def desk(
    admission: Admission | None = None,
    listeners: Sequence[ArrivalListener] = (),
    codec_of: Callable[[Sequence[str]], FrameCodec | None] | None = None,
    **settings: Any,
) -> tuple[Reception, Log]:
    log = Log()
    made = Reception(
        log, GatewaySettings(**settings), admission=admission, listeners=listeners, codec_of=codec_of
    )
    return made, log


def arrival(adapter: str, body: bytes | str, **more: Any) -> Arrival:
    data = body.encode() if isinstance(body, str) else body
    fields: dict[str, Any] = {"adapter": adapter, "body": data, "received_at": NOW, "way": "http"}
    return Arrival(**fields | more)
