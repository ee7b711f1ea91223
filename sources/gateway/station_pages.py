"""The stations of a network over HTTP, for keys that manage them: what `skyfuse stations` does."""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

from pydantic_core import PydanticCustomError, to_json

from schemas.base import format_time, from_ms, parse_time
from schemas.errors import Refused
from schemas.station import Station
from sources.errors import StationError
from sources.gateway.answers import HttpAnswer
from sources.gateway.errors import KafkaAway, NotAllowed, NotTaken
from sources.gateway.key_scope import KeyScope
from sources.stations.edits import read_records
from sources.stations.registry import StationRegistry

_T = TypeVar("_T")
#: The statuses of what cannot be done.
_STATUS: Final = {"unknown_station": 404, "known_station": 409, "refused": 422}


class StationRequest(NamedTuple):
    """What was asked for: by whom, of which station, with which query and body."""

    scope: KeyScope
    station: str
    query: Mapping[str, str]
    body: bytes


class StationPages:
    """Answers requests. A key that manages stations sees and changes those that it covers, and no others.

    Args:
        registry: of the records.
        now: s since 1970.
    """

    def __init__(self, registry: StationRegistry, now: Callable[[], float]) -> None:
        self._registry = registry
        self._now = now
        # One at a time: each reads a topic, in a thread, beside what devices send.
        self._turn = asyncio.Lock()

    async def all(self, request: StationRequest) -> HttpAnswer:
        """The records, with their history: what `take` takes."""
        self._expect(request, whose=False)
        known = await self._do(self._registry.records)
        return _json(200, [_plain(known[name]) for name in sorted(known) if request.scope.manages(name)])

    async def one(self, request: StationRequest) -> HttpAnswer:
        """A record."""
        self._expect(request)
        return _json(200, _plain(await self._do(lambda: self._registry.record(request.station))))

    async def add(self, request: StationRequest) -> HttpAnswer:
        """Record a station."""
        fields = _fields(request)
        station = fields.get("station")
        self._expect(request._replace(station=str(station)), whose=isinstance(station, str))
        return _json(201, _plain(await self._do(lambda: self._registry.add(fields))))

    async def edit(self, request: StationRequest) -> HttpAnswer:
        """Change some fields; `from`: since when, of the data; `moved`: it stands elsewhere."""
        self._expect(request)
        now = self._moment()
        since = _time(request.query["from"]) if "from" in request.query else now
        fields = _fields(request)
        moved = request.query.get("moved", "").lower() in ("true", "1")
        _, change = await self._do(
            lambda: self._registry.edit(request.station, fields, since, now, moved=moved)
        )
        return _json(200, _plain(change.record))

    async def retire(self, request: StationRequest) -> HttpAnswer:
        """Take a record back."""
        self._expect(request)

        def retire() -> None:
            self._registry.record(request.station)
            self._registry.retire(request.station)

        await self._do(retire)
        return HttpAnswer(204, b"")

    async def take(self, request: StationRequest) -> HttpAnswer:
        """Record all stations of a list, or none."""
        self._expect(request, whose=False)
        text = _text(request)
        try:
            for where, fields in read_records(text):
                station = fields.get("station")
                if isinstance(station, str) and not request.scope.manages(station):
                    raise NotAllowed(f"{where}: {request.scope.holder} does not manage that station")
        except Refused as refused:
            raise NotTaken("refused", refused.message, 422) from None
        now = self._moment()
        news = await self._do(lambda: self._registry.take(text, now))
        return _json(200, news._asdict())

    async def waiting(self, request: StationRequest) -> HttpAnswer:
        """Who waits to be let in."""
        self._expect(request, whose=False)
        found = await self._do(self._registry.waiting)
        rows = [
            {
                "station": name, "readings": one.count, "pictures": one.pictures,
                "first": format_time(from_ms(one.first)),
                "last": format_time(from_ms(one.last)), "adapters": list(one.adapters),
                "origins": list(one.origins),
            }
            for name, one in sorted(found.items())
            if request.scope.manages(name)
        ]  # fmt: skip
        return _json(200, rows)

    async def adopt(self, request: StationRequest) -> HttpAnswer:
        """Let a station in, and publish what waits of it."""
        self._expect(request)
        fields = _fields(request) if request.body.strip() else {}
        count = await self._do(lambda: self._registry.adopt(request.station, fields))
        return _json(200, {"station": request.station, "published": count})

    def _expect(self, request: StationRequest, *, whose: bool = True) -> None:
        """Raises NotAllowed."""
        holder = request.scope.holder
        if not request.scope.managed:
            raise NotAllowed(f"{holder} manages no stations: `skyfuse gateway keys add NAME --manages`")
        if whose and not request.scope.manages(request.station):
            raise NotAllowed(f"{holder} does not manage the station {request.station[:80]}")

    def _moment(self) -> datetime:
        return from_ms(round(self._now() * 1000))

    async def _do(self, work: Callable[[], _T]) -> _T:
        """Raises NotTaken, KafkaAway."""
        try:
            async with self._turn:
                return await asyncio.to_thread(work)
        except StationError as error:
            if error.code == "broker":
                raise KafkaAway(str(error)) from None
            raise NotTaken(error.code, str(error), _STATUS[error.code]) from None


def _fields(request: StationRequest) -> dict[str, Any]:
    try:
        found = json.loads(_text(request))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NotTaken("bad_request", "the body is no JSON object with the fields of a station", 400)
    return found


def _text(request: StationRequest) -> str:
    try:
        return request.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotTaken("bad_request", "the body is not UTF-8 text", 400) from None


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except PydanticCustomError as error:
        raise NotTaken("bad_request", f"from: {error.message()}", 400) from None


def _plain(record: Station) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude_defaults=True)


def _json(status: int, document: object) -> HttpAnswer:
    return HttpAnswer(status, to_json(document))
