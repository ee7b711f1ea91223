"""What was refused as a dead letter: its bytes, why, and all that is needed to take it in once more. Pure.

A picture's bytes are left out: dead letters are kept for longer than pictures are.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from camera.image import MAX_ORIGINAL_BYTES
from camera.picture_file import kind_of, may_show
from schemas.arrival_headers import ADAPTER_HEADER, FRAME, PREFIX
from schemas.base import from_ms
from schemas.dead_letter import DeadLetter
from sources.adapters.core.parts import Part
from sources.gateway.arrival import Arrival, Picture
from streams.stage import Out
from streams.topics import DEAD_LETTERS

#: Refused parts that a dead letter names; the others are counted.
MOST_NAMED: Final = 4
#: Bytes of a payload that are kept; a record has room for them, and for the story.
MOST_BYTES: Final = MAX_ORIGINAL_BYTES
_RECEIVED_HEADER: Final = f"{PREFIX}received-at"
#: How many bytes there were, where some were not kept.
_CUT_HEADER: Final = f"{PREFIX}cut"


class RefusedPayload(NamedTuple):
    """A payload of which something was refused.

    `station`: whose it is, if anybody's; `about`: what else its way in knew of it, by the name of a header.
    """

    adapter: str
    body: bytes
    received_at: int
    station: str | None
    about: Mapping[str, str]

    @classmethod
    def of_arrival(cls, arrival: Arrival, station: str | None) -> "RefusedPayload":
        """An arrival; `station`: of a reading in it, where nothing else says whose it is."""
        known = arrival.station or arrival.scope.only
        about = {
            "way": arrival.way, "topic": arrival.topic, "receiver": arrival.receiver, "station": known or "",
            "origin": arrival.origin, "zone": "" if arrival.zone is None else str(arrival.zone),
        }  # fmt: skip
        return cls(arrival.adapter, arrival.body, arrival.received_at, known or station, about)

    @classmethod
    def of_picture(cls, picture: Picture) -> "RefusedPayload":
        """A picture."""
        about = {
            "way": picture.way, "station": picture.station, "camera": picture.camera,
            "taken-at": str(picture.taken_at), "origin": picture.origin,
        }  # fmt: skip
        return cls(FRAME, picture.data, picture.received_at, picture.station, about)

    def story(self, parts: Sequence[Part], used: bool) -> DeadLetter:
        """Why it was refused. Its id is made of when it came and of its bytes: it stood on no topic.

        `used`: whether other parts of it were.
        """
        named = parts[:MOST_NAMED]
        words = "; ".join(f"{part.where}: {part.why}" if part.where else part.why for part in named)
        more = sum(part.times for part in parts[MOST_NAMED:])
        digest = hashlib.sha256(self.body).digest()
        return DeadLetter(
            stage="gateway",
            code=parts[0].code,
            reason=f"{words} (and {more} more)" if more else words,
            topic=f"gateway.{self.adapter}",
            partition=0,
            # Milliseconds, and 22 bits that tell apart what came in the same one.
            offset=(self.received_at << 22 | int.from_bytes(digest[:4]) >> 10) & (2**63 - 1),
            failed_at=from_ms(self.received_at),
            partly_used=used,
        )

    def record(self, story: DeadLetter, prefix: str) -> Out:
        """It with its story, as it is produced; `prefix`: before the names of topics."""
        about = [
            (f"{PREFIX}{name}", text[:1000].encode(errors="backslashreplace"))
            for name, text in self.about.items()
            if text
        ]
        about += [
            (ADAPTER_HEADER, self.adapter.encode()), (_RECEIVED_HEADER, str(self.received_at).encode())
        ]  # fmt: skip
        key = None if self.station is None else self.station.encode(errors="replace")
        value: bytes | None = self.body[:MOST_BYTES]
        if may_show(self.body) if self.adapter == FRAME else kind_of(self.body):
            value = None
        elif len(self.body) > MOST_BYTES:
            about.append((_CUT_HEADER, str(len(self.body)).encode()))
        return Out(prefix + DEAD_LETTERS.name, key, value, [*about, *story.to_headers()])


def arrival_again(headers: Mapping[str, str], body: bytes) -> Arrival | Picture:
    """What a dead letter was made of, by its headers without those of its story.

    Raises KeyError or ValueError where they are not complete, or the body is not: half of it may say another
    thing than all of it.
    """
    about = {name.removeprefix(PREFIX): text for name, text in headers.items() if name.startswith(PREFIX)}
    if "cut" in about:
        raise ValueError(f"it had {about['cut']} bytes, of which the first {len(body)} were kept")
    received_at, origin = int(about["received-at"]), about.get("origin", "")
    if about["adapter"] == FRAME:
        return Picture(
            about["station"], int(about["taken-at"]), body, received_at, about["way"], about["camera"], origin
        )
    return Arrival(
        about["adapter"], body, received_at, about["way"], about.get("topic", ""), origin,
        about.get("station"), receiver="broker" if about.get("receiver") == "broker" else "server",
        zone=ZoneInfo(about["zone"]) if "zone" in about else None,
    )  # fmt: skip
