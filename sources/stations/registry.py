"""The records of stations, listed and changed: what the command line and the gateway's admin paths both do.

Everything is read from and written to the topic; nothing is kept here. Blocking, with kafka-python.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from kafka.errors import KafkaError

from schemas.errors import Refused
from schemas.station import Station
from sources.errors import StationError
from sources.stations.edits import Change, changed, made, read_records
from sources.stations.quarantine import Waiting, release, waiting
from streams.errors import TopicReadError
from streams.record_sender import RecordSender
from streams.stage import Out
from streams.stations import note_station
from streams.to_end import read_topic
from streams.topics import STATIONS

#: Faults of a file that are named.
_NAMED: Final = 20
#: What a change says otherwise: whose record it is, from when it counts, and what was before.
_NOT_FIELDS: Final = ("station", "valid_from", "earlier")


class Edited(NamedTuple):
    """A record before and after a change."""

    before: Station
    change: Change


class Imported(NamedTuple):
    """How many records of a file were news, and how many stood as they are."""

    recorded: int
    same: int


class StationRegistry:
    """The stations of a network. Raises StationError wherever something cannot be done.

    Args:
        connection: arguments of kafka-python's clients.
        prefix: before the names of topics.
    """

    def __init__(self, connection: Mapping[str, Any], prefix: str = "") -> None:
        self._connection = connection
        self._prefix = prefix

    def records(self) -> dict[str, Station]:
        """The records that there are."""
        known: dict[str, Station] = {}
        try:
            for record in read_topic(self._connection, self._prefix + STATIONS.name):
                note_station(known, record.key, record.value, lambda station: station)
        except TopicReadError as error:
            raise StationError("broker", str(error)) from error
        return known

    def record(self, station: str) -> Station:
        """A station's record."""
        found = self.records().get(station)
        if found is None:
            raise StationError("unknown_station", f"{station} has no record")
        return found

    def add(self, fields: Mapping[str, Any]) -> Station:
        """Record a station that has no record yet."""
        record = _checked(fields)
        if record.station in self.records():
            raise StationError(
                "known_station", f"{record.station} has a record already, which an edit changes"
            )
        self._send([Change(record)])
        return record

    def edit(
        self, station: str, fields: Mapping[str, Any], since: datetime, now: datetime, *, moved: bool = False
    ) -> Edited:
        """Change a record from the event time `since` on (`edits.changed`)."""
        wrong = [name for name in _NOT_FIELDS if name in fields]
        if wrong:
            raise StationError("refused", f"{wrong[0]} is no field that can be changed")
        before = self.record(station)
        try:
            change = changed(before, fields, since, now, moved=moved)
        except Refused as refused:
            raise StationError("refused", refused.message) from refused
        self._send([change])
        return Edited(before, change)

    def retire(self, station: str) -> None:
        """Take a record back: its alerts end, what was learned of it is forgotten, its series stays."""
        self._send([station])

    def take(self, text: str, now: datetime) -> Imported:
        """Record the stations of a file, all or, where one has a fault, none."""
        known = self.records()
        changes: dict[str, Change] = {}
        seen: set[str] = set()
        faults = []
        try:
            found = read_records(text)
        except Refused as refused:
            raise StationError("refused", refused.message) from refused
        for where, fields in found:
            try:
                record = made(fields)
                if record.station in seen:
                    faults.append(
                        f"{where}: {record.station} has a record above already: one of each station"
                    )
                    continue
                seen.add(record.station)
                before = known.get(record.station)
                if before is not None and not (record.valid_from or record.earlier):
                    plain = record.model_dump(mode="json", exclude={"valid_from", "earlier"})
                    changes[record.station] = changed(before, plain, now, now)
                else:
                    changes[record.station] = Change(record)
            except Refused as refused:
                faults.append(f"{where}: {refused.message}")
        if faults:
            more = f"\n(and {len(faults) - _NAMED} more)" if len(faults) > _NAMED else ""
            raise StationError(
                "refused", "nothing was recorded, it has faults:\n" + "\n".join(faults[:_NAMED]) + more
            )
        news = [one for name, one in changes.items() if known.get(name) != one.record]
        self._send(news)
        return Imported(len(news), len(changes) - len(news))

    def waiting(self) -> dict[str, Waiting]:
        """Who waits to be let in."""
        try:
            return waiting(self._connection, self._prefix)
        except TopicReadError as error:
            raise StationError("broker", str(error)) from error

    def adopt(self, station: str, fields: Mapping[str, Any]) -> int:
        """Let a station in, with a record of these fields where it has none; how much of it was published."""
        if station not in self.records():
            record = _checked({"station": station, **fields})
            if station not in self.waiting():
                raise StationError(
                    "unknown_station", f"nothing waits of {station}: `skyfuse stations add` records a station"
                )
            self._send([Change(record)])
        elif fields:
            raise StationError("known_station", f"{station} has a record already, which an edit changes")
        try:
            return release(self._connection, self._prefix, station)
        except TopicReadError as error:
            raise StationError("broker", str(error)) from error

    def _send(self, what: Sequence[Change | str]) -> None:
        """Send changes, or tombstones of stations, each when the one before it is confirmed."""
        try:
            sender = RecordSender(self._connection)
        except KafkaError as error:
            raise StationError(
                "broker", f"nothing was recorded, the broker cannot be reached: {error}"
            ) from error
        with sender:
            for one in what:
                station = one if isinstance(one, str) else one.record.station
                values: list[bytes | None] = []
                if isinstance(one, str) or one.anew:
                    # A record without a value is a tombstone: the topic forgets the station, so do workers.
                    values.append(None)
                if not isinstance(one, str):
                    values.append(one.record.model_dump_json(exclude_defaults=True).encode())
                for value in values:
                    try:
                        sender.publish(Out(self._prefix + STATIONS.name, station.encode(), value))
                    except KafkaError as error:
                        raise StationError(
                            "broker", f"{station}: the broker did not confirm it: {error}"
                        ) from error


def _checked(fields: Mapping[str, Any]) -> Station:
    try:
        return made(fields)
    except Refused as refused:
        raise StationError("refused", refused.message) from refused
