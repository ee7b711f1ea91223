"""What arrives becomes records, confirmed by the broker; what cannot, a dead letter with its bytes.

Nothing is dropped silently: each part of a payload is used, left out by name, or refused by name. What an
adapter does not know is a dead letter once for each adapter and place in the payload, since a device sends
the same with every message; so is a body of which nothing could be used, when it comes again from the same
sender. Everything else that is refused is one each time.
"""

import asyncio
import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from prometheus_client import Counter
from pydantic import ValidationError

from camera.errors import ImageRefused
from camera.image import reduced
from camera.picture_file import kind_of
from schemas.arrival_headers import ADAPTER_HEADER, FRAME, ORIGIN_HEADER, RAW_HEADER
from schemas.base import first_error, from_ms
from schemas.errors import Refused
from schemas.frame import MAX_FRAME_BYTES, FrameHeader
from schemas.reading import Reading, encode
from settings.sections import GatewaySettings
from sources.adapters import adapters, skyfuse_json
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.frame_codec import FrameCodec
from sources.adapters.core.moments import check_clock
from sources.adapters.core.parts import Part
from sources.adapters.core.source_format import Context
from sources.adapters.core.translation import Facts, Translation, translate
from sources.adapters.core.tray import backlog
from sources.gateway.arrival import Arrival, Picture, Receipt
from sources.gateway.errors import NotAllowed
from sources.gateway.key_scope import KeyScope
from sources.gateway.letters import MOST_NAMED, RefusedPayload
from sources.gateway.uplinks import Recent, uplink_of
from streams import metrics
from streams.boundary import guarded
from streams.stage import Out
from streams.topics import FRAMES, QUARANTINED_FRAMES, READINGS, Topic

log = logging.getLogger(__name__)

#: A larger payload is translated beside the event loop, which others wait for.
_LARGE: Final = 64 * 1024
#: Unknown places that are remembered; a device that makes up names has its oldest reported again.
_MOST_UNKNOWN: Final = 10_000
#: Bodies of which nothing could be used that are remembered.
_MOST_BODIES: Final = 10_000
_INDEX: Final = re.compile(r"\[\d+\]")


class Publishes(Protocol):
    """Returns when the broker has confirmed every record; raises KafkaAway."""

    async def publish(self, records: Sequence[Out]) -> None:
        """Produce in order."""


class ArrivalListener(Protocol):
    """Is given everything that was confirmed: who counts, keeps states, or shows them. Must not raise."""

    def taken(self, arrival: Arrival, receipt: Receipt) -> None:
        """A payload arrived and this became of it."""

    def picture_taken(self, picture: Picture, receipt: Receipt) -> None:
        """A picture arrived."""

    def link_changed(self, station: str, online: bool, at_ms: int, origin: str) -> None:
        """A device's birth or last will."""


class Admits(Protocol):
    """Says which stations are let in. All but one raise KafkaAway while that is not known."""

    def of_reading(self, reading: Reading, arrival: Arrival, facts: Sequence[Facts] = ()) -> Topic:
        """The topic that a reading goes to."""

    def of_picture(self, picture: Picture) -> Topic | None:
        """The topic that a picture goes to; None: it is not kept."""

    def lets_in(self, station: str, arrival: Arrival) -> bool:
        """Whether a station is let in."""

    def may_know(self, station: str) -> bool:
        """Whether it is no stranger, or nobody can tell yet; never raises."""


class UnknownPart(NamedTuple):
    """A place in payloads of an adapter that it does not know, without the indices of lists."""

    adapter: str
    path: str


class _RefusedBody(NamedTuple):
    """A body of which nothing was used, from whom, and why: who tries for ever has one letter of it."""

    adapter: str
    holder: str
    station: str | None
    digest: bytes
    codes: tuple[str, ...]

    @classmethod
    def of(cls, arrival: Arrival, bad: Sequence[Part]) -> "_RefusedBody":
        known, digest = arrival.station or arrival.scope.only, hashlib.sha256(arrival.body).digest()
        return cls(arrival.adapter, arrival.scope.holder, known, digest, tuple(part.code for part in bad))


class _ToPublish(NamedTuple):
    """What is produced for a translation, the receipt for it, and what was not known before, with why.

    `refused`: a body of which nothing was used, which has the letter of the receipt.
    """

    records: list[Out]
    receipt: Receipt
    unknown: dict[UnknownPart, str]
    refused: _RefusedBody | None


class Reception:
    """Where all ways in come together.

    Args:
        producer: to the broker.
        settings: of the gateway.
        prefix: before the names of topics.
        admission: which stations are let in; None: everybody is.
        listeners: are given all that was confirmed.
        codec_of: decoders of raw bytes, as of `Context`; None: there are none.
    """

    def __init__(
        self,
        producer: Publishes,
        settings: GatewaySettings,
        prefix: str = "",
        *,
        admission: Admits | None = None,
        listeners: Sequence[ArrivalListener] = (),
        codec_of: Callable[[Sequence[str]], FrameCodec | None] | None = None,
    ) -> None:
        self._producer = producer
        self._settings = settings
        self._prefix = prefix
        self._admission = admission
        self._listeners = listeners
        self._codec_of = codec_of
        self._reported: dict[UnknownPart, None] = {}
        self._letters: OrderedDict[_RefusedBody, str] = OrderedDict()
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
        adapter = adapters()[arrival.adapter]
        station = arrival.station or arrival.scope.only
        if adapter is skyfuse_json.ADAPTER:
            plain = skyfuse_json.plain_message(arrival.body, arrival.received_at, station)
            if plain is not None and arrival.scope.covers(plain.station):
                return await self._take_plain(arrival, plain)
        context = Context(
            from_ms(arrival.received_at), station, arrival.zone, arrival.topic, arrival.headers,
            arrival.receiver, self._codec_of or (lambda _: None),
            from_ms(arrival.read_at) if arrival.read_at else None,
        )  # fmt: skip
        if len(arrival.body) > _LARGE or (adapter.raw and self._codec_of is not None):
            made = await asyncio.to_thread(_translated, adapter, arrival.body, context)
        else:
            made = _translated(adapter, arrival.body, context)
        prepared = self._prepared(arrival, made)
        receipt = prepared.receipt
        await self._publish(prepared.records, arrival, receipt)
        for part, why in prepared.unknown.items():  # only now: what is not confirmed comes again
            self._report(part, why)
        if prepared.refused is not None and receipt.dead_letter is not None:
            self._letters[prepared.refused] = receipt.dead_letter
            while len(self._letters) > _MOST_BODIES:
                self._letters.popitem(last=False)
        if uplink is not None and (receipt.published or not receipt.refused):
            # What was refused may be right the next time: by another key, or with a decoder.
            self._uplinks.note(uplink, arrival.received_at)
        return receipt

    async def _take_plain(self, arrival: Arrival, plain: skyfuse_json.PlainMessage) -> Receipt:
        """A good message of ours: most of what comes, so nothing is made of it that is not needed."""
        topic = READINGS
        if self._admission is not None:
            topic = self._admission.of_reading(Reading.model_validate_json(plain.data), arrival)
        age = timedelta(milliseconds=arrival.received_at - plain.observed_at_ms)
        remarks = (*backlog(age), *_waits(plain.station, topic))
        receipt = Receipt(1, plain.values, (plain.station,), remarks=remarks)
        record = Out(self._prefix + topic.name, plain.station.encode(), plain.data, _headers(arrival, topic))
        await self._publish([record], arrival, receipt)
        return receipt

    async def _publish(self, records: Sequence[Out], arrival: Arrival, receipt: Receipt) -> None:
        """Returns when all is confirmed, and listeners know of it. Raises KafkaAway."""
        await self._producer.publish(records)
        _arrivals(arrival.way, arrival.adapter, _result(receipt)).inc()
        for listener in self._listeners:
            listener.taken(arrival, receipt)

    async def take_picture(self, picture: Picture) -> Receipt:
        """Cut and scale a picture as settings say, and publish it. Returns when the broker has confirmed.

        Raises KafkaAway, and NotAllowed where its sender may not speak for the station. A picture that is
        none, or not a station's, is a dead letter.
        """
        if not picture.scope.covers(picture.station):
            raise NotAllowed(f"{picture.scope.holder or 'this key'} is not for the station {picture.station}")
        record: Out | None
        try:
            header, data = await self._frame(picture)
        except Refused as refused:
            part = Part(refused.code, "", refused.message)
            payload = RefusedPayload.of_picture(picture)
            story = payload.story([part], used=False)
            metrics.DEAD_LETTERS.labels("gateway", part.code).inc()
            receipt = Receipt(refused=(part,), dead_letter=story.id)
            record = payload.record(story, self._prefix)
        else:
            record, receipt = self._admitted(picture, header, data)
        if record is not None:
            await self._producer.publish([record])
        _arrivals(picture.way, "frame", _result(receipt)).inc()
        for listener in self._listeners:
            listener.picture_taken(picture, receipt)
        return receipt

    def _admitted(self, picture: Picture, header: FrameHeader, data: bytes) -> tuple[Out | None, Receipt]:
        """What is produced of a picture, if anything is."""
        topic = FRAMES if self._admission is None else self._admission.of_picture(picture)
        if topic is FRAMES:
            record = Out(self._prefix + FRAMES.name, picture.station.encode(), data, header.to_headers())
            return record, Receipt(published=1, stations=(picture.station,))
        if topic is None:
            more = "; of its pictures one a minute is kept"
            return None, Receipt(remarks=_waits(picture.station, QUARANTINED_FRAMES, more))
        sender = [(ADAPTER_HEADER, FRAME.encode()), (ORIGIN_HEADER, picture.origin.encode())]
        record = Out(
            self._prefix + topic.name, picture.station.encode(), data, [*header.to_headers(), *sender]
        )
        return record, Receipt(published=1, remarks=_waits(picture.station, topic))

    def link_changed(self, station: str, online: bool, at_ms: int, origin: str) -> None:
        """A device was born or its last will was read; of strangers that wait nobody hears it."""
        if self._admission is not None and not self._admission.may_know(station):
            return
        for listener in self._listeners:
            listener.link_changed(station, online, at_ms, origin)

    def _prepared(self, arrival: Arrival, made: Translation) -> _ToPublish:
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
            for station, times in list(strangers.items())[:MOST_NAMED]
        ]
        facts = tuple(fact for fact in made.facts if arrival.scope.covers(fact.station))
        clocks = tuple(one for one in made.wrong_clocks if arrival.scope.covers(one.station))
        if arrival.scope.keyless and not (kept or facts) and not _covers(arrival.scope, arrival.station):
            raise NotAllowed("it is of no station that may speak without a key")
        records = []
        waiting: dict[str, Topic] = {}
        headers: dict[str, list[tuple[str, bytes | None]]] = {}
        for reading in kept:
            topic = READINGS
            if self._admission is not None:
                topic = self._admission.of_reading(reading, arrival, facts)
            if topic.name not in headers:
                headers[topic.name] = _headers(arrival, topic)
            name = self._prefix + topic.name
            records.append(Out(name, reading.station.encode(), encode(reading), headers[topic.name]))
            if topic is not READINGS:
                waiting[reading.station] = topic
        unknown: dict[UnknownPart, str] = {}
        bad = []
        for part in refused:
            place = UnknownPart(arrival.adapter, _INDEX.sub("[]", part.where))
            if part.code != "unknown":
                bad.append(part)
            elif place not in self._reported:
                bad.append(part)
                unknown[place] = part.why
        letter_id = None
        body = _RefusedBody.of(arrival, bad) if bad and not kept else None
        if body is not None and body in self._letters:
            letter_id = self._letters[body]
        elif bad:
            of = [*(one.station for one in kept[:1]), *(one.station for one in clocks[:1])]
            payload = RefusedPayload.of_arrival(arrival, of[0] if of else None)
            story = payload.story(bad, used=bool(kept))
            metrics.DEAD_LETTERS.labels("gateway", bad[0].code).inc()
            records.append(payload.record(story, self._prefix))
            letter_id = story.id
        receipt = Receipt(
            published=len(kept),
            values=sum(len(reading.values) for reading in kept),
            stations=tuple(dict.fromkeys(reading.station for reading in kept)),
            refused=tuple(refused),
            left_out=made.left_out,
            remarks=(
                *made.remarks,
                *(
                    part
                    for station in list(waiting)[:MOST_NAMED]
                    for part in _waits(station, waiting[station])
                ),
            ),
            facts=tuple(fact for fact in facts if self._lets_in(fact.station, arrival)),
            wrong_clocks=tuple(one for one in clocks if self._lets_in(one.station, arrival)),
            dead_letter=letter_id,
            unusable_of=None if kept or clocks else self._unusable_of(arrival, refused),
        )
        return _ToPublish(records, receipt, unknown, body)

    def _unusable_of(self, arrival: Arrival, refused: Sequence[Part]) -> str | None:
        known = arrival.station or arrival.scope.only
        if known is None or all(part.code == "unknown" for part in refused):
            return None
        return known if self._lets_in(known, arrival) else None

    def _lets_in(self, station: str, arrival: Arrival) -> bool:
        """Whether the fleet may hear of a station: it has room for so many, and strangers are any number."""
        return self._admission is None or self._admission.lets_in(station, arrival)

    def _report(self, part: UnknownPart, why: str) -> None:
        if len(self._reported) >= _MOST_UNKNOWN:
            del self._reported[next(iter(self._reported))]
        self._reported[part] = None
        log.warning(
            "adapter %s does not know %s: %s (said once)", part.adapter, part.path or "a payload", why
        )

    async def _frame(self, picture: Picture) -> tuple[FrameHeader, bytes]:
        """The frame that is published. Raises Refused."""
        check_clock(_moment(picture.taken_at), from_ms(picture.read_at or picture.received_at))
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
                content_type=f"image/{kind_of(data) or 'jpeg'}",
            )
        except ValidationError as error:
            raise Refused(*first_error(error)) from error
        return header, data


def _translated(adapter: Adapter, body: bytes, context: Context) -> Translation:
    made = guarded(lambda: translate(adapter, body, context))
    if isinstance(made, Refused):
        return Translation((), (), (Part(made.code, "", made.message),), (), ())
    return made


def _moment(time_ms: int) -> datetime:
    try:
        return from_ms(time_ms)
    except (ValueError, OverflowError) as error:
        raise Refused("not_a_time", f"{time_ms} ms since 1970 is no date") from error


def _covers(scope: KeyScope, station: str | None) -> bool:
    return station is not None and scope.covers(station)


def _headers(arrival: Arrival, topic: Topic) -> list[tuple[str, bytes | None]]:
    """A pointer to the payload; where a reading waits, who sent it as well."""
    raw = f"sha256:{hashlib.sha256(arrival.body).hexdigest()}"
    headers: list[tuple[str, bytes | None]] = [(RAW_HEADER, raw.encode())]
    if topic is not READINGS:
        headers += [(ADAPTER_HEADER, arrival.adapter.encode()), (ORIGIN_HEADER, arrival.origin.encode())]
    return headers


def _waits(station: str, topic: Topic, more: str = "") -> tuple[Part, ...]:
    if topic is READINGS:
        return ()
    return (Part("waits", "", f"{station} is not let in yet: `skyfuse stations adopt {station}`{more}"),)


@lru_cache(1024)
def _arrivals(way: str, adapter: str, result: str) -> Counter:
    return metrics.ARRIVALS.labels(way, adapter, result)


def _result(receipt: Receipt) -> str:
    if not receipt.refused:
        return "used"
    return "partly_used" if receipt.published else "refused"
