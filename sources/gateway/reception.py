"""What arrives becomes records, confirmed by the broker; what cannot, a dead letter with its bytes.

Nothing is dropped silently: each part of a payload is used, left out by name, or refused by name. What an
adapter does not know is told once for each adapter and place in the payload, since a device sends the same
with every message; everything else that is refused is a dead letter each time.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from camera.errors import ImageRefused
from camera.image import reduced
from schemas.base import first_error, from_ms
from schemas.dead_letter import DeadLetter
from schemas.errors import Refused
from schemas.frame import MAX_FRAME_BYTES, FrameHeader
from schemas.reading import Reading, encode
from settings.sections import GatewaySettings
from sources.adapters import adapters, skyfuse_json
from sources.adapters.core.adapter import Adapter, Context
from sources.adapters.core.lorawan import FrameCodec
from sources.adapters.core.parts import Part
from sources.adapters.core.translation import Translation, translate
from sources.gateway.arrival import Arrival, KeyScope, Picture, Receipt
from sources.gateway.errors import NotAllowed
from sources.gateway.uplinks import Recent, uplink_of
from streams import metrics
from streams.boundary import guarded
from streams.stage import Out
from streams.topics import DEAD_LETTERS, FRAMES, READINGS, Topic

log = logging.getLogger(__name__)

#: A larger payload is translated beside the event loop, which others wait for.
_LARGE: Final = 64 * 1024
#: Unknown places that are remembered; a device that makes up names has its oldest told again.
_TOLD: Final = 10_000
_INDEX: Final = re.compile(r"\[\d+\]")
#: Reasons that a dead letter names; the rest is counted.
_NAMED: Final = 4
_TELLS: Final = "x-gateway-"
#: Headers that say by which adapter and from where a record came; who waits is listed by them.
ADAPTER_HEADER: Final = f"{_TELLS}adapter"
ORIGIN_HEADER: Final = f"{_TELLS}origin"


class Publishes(Protocol):
    """Returns when the broker has confirmed every record; raises KafkaAway."""

    async def publish(self, records: Sequence[Out]) -> None:
        """Produce in order."""


class Witness(Protocol):
    """Hears of everything that was confirmed: who counts, keeps states, or shows them. Must not raise."""

    def heard(self, arrival: Arrival, receipt: Receipt) -> None:
        """A payload arrived and this became of it."""

    def seen(self, picture: Picture, receipt: Receipt) -> None:
        """A picture arrived."""

    def linked(self, station: str, online: bool, at_ms: int, origin: str) -> None:
        """A device's birth or last will."""


def _to_readings(reading: Reading, arrival: Arrival) -> Topic:
    del reading, arrival
    return READINGS


class Reception:
    """Where all ways in come together.

    Args:
        producer: to the broker.
        settings: of the gateway.
        prefix: before the names of topics.
        route: the topic that a reading goes to; for stations that are not let in yet, another one.
        witnesses: hear of all that was confirmed.
        codec_of: decoders of raw bytes, as of `Context`; None: there are none.
    """

    def __init__(
        self,
        producer: Publishes,
        settings: GatewaySettings,
        prefix: str = "",
        *,
        route: Callable[[Reading, Arrival], Topic] = _to_readings,
        witnesses: Sequence[Witness] = (),
        codec_of: Callable[[Sequence[str]], FrameCodec | None] | None = None,
    ) -> None:
        self._producer = producer
        self._settings = settings
        self._prefix = prefix
        self.route = route
        self.witnesses = list(witnesses)
        self._codec_of = codec_of
        self._told: dict[tuple[str, str], None] = {}
        self._uplinks = Recent()

    async def take(self, arrival: Arrival) -> Receipt:
        """Translate and publish. When it returns the broker has confirmed everything.

        Raises KafkaAway: nothing may be acknowledged; the same again, later. What is wrong with the payload
        is in the receipt; only a sender without a key gets NotAllowed, where nothing in it is of a station
        that may be spoken for without one. `arrival.adapter` must be one there is.
        """
        uplink = uplink_of(arrival.adapter, arrival.body)
        if uplink is not None and uplink in self._uplinks:
            metrics.ARRIVALS.labels(arrival.way, arrival.adapter, "duplicate").inc()
            return Receipt(duplicate=True)
        context = Context(
            from_ms(arrival.received_at), arrival.station or arrival.scope.only, arrival.zone, arrival.topic,
            arrival.headers, arrival.receiver, self._codec_of or (lambda _: None),
        )  # fmt: skip
        adapter = adapters()[arrival.adapter]
        if len(arrival.body) > _LARGE or (adapter.raw and self._codec_of is not None):
            made = await asyncio.to_thread(_translated, adapter, arrival.body, context)
        else:
            made = _translated(adapter, arrival.body, context)
        records, receipt, unknown = self._records(arrival, made)
        await self._producer.publish(records)
        for place in unknown:  # only now: what is not confirmed comes again
            self._tell(*place)
        if uplink is not None:
            self._uplinks.note(uplink, arrival.received_at)
        metrics.ARRIVALS.labels(arrival.way, arrival.adapter, _result(receipt)).inc()
        for witness in self.witnesses:
            witness.heard(arrival, receipt)
        return receipt

    async def take_picture(self, picture: Picture) -> Receipt:
        """Cut and scale a picture as settings say, and publish it. Returns when the broker has confirmed.

        Raises KafkaAway, and NotAllowed where its sender may not speak for the station. A picture that is
        none, or not a station's, is a dead letter.
        """
        if not picture.scope.covers(picture.station):
            raise NotAllowed(f"{picture.scope.holder or 'this key'} is not for the station {picture.station}")
        try:
            header, data = await self._frame(picture)
        except Refused as refused:
            part = Part(refused.code, "", refused.message)
            letter = _letter(
                self._prefix, "frame", picture.data, picture.received_at, [part], False,
                {"way": picture.way, "station": picture.station, "camera": picture.camera,
                 "taken-at": str(picture.taken_at), "origin": picture.origin}, picture.station,
            )  # fmt: skip
            receipt, record = Receipt(refused=(part,), dead_letter=_id(letter)), letter
        else:
            record = Out(
                self._prefix + FRAMES.name, picture.station.encode(), data,
                header.to_headers(),
            )  # fmt: skip
            receipt = Receipt(published=1, stations=(picture.station,))
        await self._producer.publish([record])
        metrics.ARRIVALS.labels(picture.way, "frame", _result(receipt)).inc()
        for witness in self.witnesses:
            witness.seen(picture, receipt)
        return receipt

    def tell_link(self, station: str, online: bool, at_ms: int, origin: str) -> None:
        """A device was born or its last will was read."""
        for witness in self.witnesses:
            witness.linked(station, online, at_ms, origin)

    def _records(
        self, arrival: Arrival, made: Translation
    ) -> tuple[list[Out], Receipt, list[tuple[str, str, str]]]:
        """What is produced for a translation, the receipt for it, and what was not known before."""
        refused = list(made.refused)
        kept = []
        strangers: dict[str, int] = {}
        for reading in made.readings:
            if arrival.scope.covers(reading.station):
                kept.append(reading)
            else:
                strangers[reading.station] = strangers.get(reading.station, 0) + 1
        holder = arrival.scope.holder or "the sender"
        refused += [
            Part("not_yours", "", f"{holder} may not speak for the station {station}", times)
            for station, times in list(strangers.items())[:_NAMED]
        ]
        facts = tuple(fact for fact in made.facts if arrival.scope.covers(fact.station))
        if arrival.scope.keyless and not (kept or facts) and not _covers(arrival.scope, arrival.station):
            raise NotAllowed("it is of no station that may speak without a key")
        raw = [(f"{_TELLS}raw", _digest(arrival.body).encode())]
        who = [(ADAPTER_HEADER, arrival.adapter.encode()), (ORIGIN_HEADER, arrival.origin.encode())]
        records = []
        waiting: dict[str, None] = {}
        for reading in kept:
            topic = self.route(reading, arrival)
            headers = raw if topic is READINGS else raw + who
            name = self._prefix + topic.name
            records.append(Out(name, reading.station.encode(), encode(reading), headers))
            if topic is not READINGS:
                waiting[reading.station] = None
        unknown: list[tuple[str, str, str]] = []
        bad = []
        for part in refused:
            place = arrival.adapter, _INDEX.sub("[]", part.where)
            if part.code != "unknown":
                bad.append(part)
            elif place not in self._told:
                bad.append(part)
                unknown.append((*place, part.why))
        letter_id = None
        if bad:
            letter = _letter(
                self._prefix, arrival.adapter, arrival.body, arrival.received_at, bad, bool(kept),
                {"way": arrival.way, "topic": arrival.topic, "receiver": arrival.receiver,
                 "station": arrival.station or arrival.scope.only or "", "origin": arrival.origin,
                 "zone": "" if arrival.zone is None else str(arrival.zone)},
                arrival.station or arrival.scope.only or (kept[0].station if kept else None),
            )  # fmt: skip
            metrics.DEAD_LETTERS.labels("gateway", bad[0].code).inc()
            records.append(letter)
            letter_id = _id(letter)
        receipt = Receipt(
            published=len(kept),
            values=sum(len(reading.values) for reading in kept),
            stations=tuple(dict.fromkeys(reading.station for reading in kept)),
            refused=tuple(refused),
            left_out=made.left_out,
            remarks=(
                *made.remarks,
                *(
                    Part("waits", "", f"{station} is not let in yet: `skyfuse stations adopt {station}`")
                    for station in list(waiting)[:_NAMED]
                ),
            ),
            facts=facts,
            dead_letter=letter_id,
        )
        return records, receipt, unknown

    def _tell(self, adapter: str, where: str, why: str) -> None:
        if len(self._told) >= _TOLD:
            del self._told[next(iter(self._told))]
        self._told[adapter, where] = None
        log.warning("adapter %s does not know %s: %s (said once)", adapter, where or "a payload", why)

    async def _frame(self, picture: Picture) -> tuple[FrameHeader, bytes]:
        """The frame that is published. Raises Refused."""
        data = picture.data
        if picture.crop is not None or not self._settings.keep_originals:
            try:
                data = await asyncio.to_thread(reduced, data, self._settings.longest_side, picture.crop)
            except ImageRefused as error:
                raise Refused(error.code, str(error)) from error
        if len(data) > MAX_FRAME_BYTES:
            raise Refused("too_many_bytes", f"the picture has {len(data)} bytes, over {MAX_FRAME_BYTES}")
        try:
            header = FrameHeader(
                id=f"{picture.station}-{picture.camera}-{picture.taken_at}",
                source=f"skyfuse/gateway/{picture.way}",
                time=from_ms(picture.taken_at),
                station=picture.station,
                camera=picture.camera,
                content_type=_media_type(data),
            )
        except ValidationError as error:
            raise Refused(*first_error(error)) from error
        except (ValueError, OverflowError) as error:
            raise Refused("not_a_time", f"{picture.taken_at} ms since 1970 is no date") from error
        return header, data


async def take_again(
    letter: Mapping[str, str], body: bytes, settings: GatewaySettings, prefix: str
) -> list[Out]:
    """The records of a gateway's dead letter, tried again: by an adapter that has learned, or mended bytes.

    Args:
        letter: its headers as text, without those of its story.
        body: its bytes.
        settings, prefix: as of a reception.

    Raises KeyError or ValueError where the headers are not complete.
    """
    told = {name.removeprefix(_TELLS): text for name, text in letter.items() if name.startswith(_TELLS)}
    collects = _Collects()
    reception = Reception(collects, settings, prefix)
    received_at, origin = int(told["received-at"]), told.get("origin", "")
    if told["adapter"] == "frame":
        picture = Picture(
            told["station"], int(told["taken-at"]), body, received_at, told["way"], told["camera"], origin
        )
        await reception.take_picture(picture)
    else:
        arrival = Arrival(
            told["adapter"], body, received_at, told["way"], told.get("topic", ""), origin,
            told.get("station"), receiver="broker" if told.get("receiver") == "broker" else "server",
            zone=ZoneInfo(told["zone"]) if "zone" in told else None,
        )  # fmt: skip
        await reception.take(arrival)
    return collects.records


class _Collects:
    """Publishes nothing: whoever asked does."""

    def __init__(self) -> None:
        self.records: list[Out] = []

    async def publish(self, records: Sequence[Out]) -> None:
        self.records += records


def _translated(adapter: Adapter, body: bytes, context: Context) -> Translation:
    if adapter.name == skyfuse_json.ADAPTER.name:
        reading = skyfuse_json.plain_reading(body, context)
        if reading is not None:
            return Translation((reading,), (), (), (), ())
    made = guarded(lambda: translate(adapter, body, context))
    if isinstance(made, Refused):
        return Translation((), (), (Part(made.code, "", made.message),), (), ())
    return made


def _covers(scope: KeyScope, station: str | None) -> bool:
    return station is not None and scope.covers(station)


def _media_type(data: bytes) -> str:
    if data.startswith(b"\x89PNG"):
        return "image/png"
    return "image/webp" if data[8:12] == b"WEBP" else "image/jpeg"


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _result(receipt: Receipt) -> str:
    if not receipt.refused:
        return "used"
    return "partly_used" if receipt.published else "refused"


def _letter(
    prefix: str, adapter: str, body: bytes, received_at: int, parts: Sequence[Part], used: bool,
    tells: dict[str, str], station: str | None,
) -> Out:  # fmt: skip
    """A payload with its reasons. Its id is made of when it came and of its bytes: it stood on no topic."""
    words = "; ".join(f"{part.where}: {part.why}" if part.where else part.why for part in parts[:_NAMED])
    more = sum(part.times for part in parts[_NAMED:])
    digest = hashlib.sha256(body).digest()
    story = DeadLetter(
        stage="gateway",
        code=parts[0].code,
        reason=f"{words} (and {more} more)" if more else words,
        topic=f"gateway.{adapter}",
        partition=0,
        # Milliseconds, and 22 bits that tell apart what came in the same one.
        offset=(received_at << 22 | int.from_bytes(digest[:4]) >> 10) & (2**63 - 1),
        failed_at=from_ms(received_at),
        partly_used=used,
    )
    told = [
        (f"{_TELLS}{name}", text[:1000].encode(errors="backslashreplace"))
        for name, text in tells.items()
        if text
    ]
    told += [(ADAPTER_HEADER, adapter.encode()), (f"{_TELLS}received-at", str(received_at).encode())]
    return Out(
        prefix + DEAD_LETTERS.name, None if station is None else station.encode(errors="replace"), body,
        [*told, *story.to_headers()],
    )  # fmt: skip


def _id(letter: Out) -> str:
    return DeadLetter.from_headers(letter.headers).id
