"""Writes the golden records of the present version: `python -m tests.golden.make`, once for each version.

A file that is there is never written again: it says what that version wrote.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from alerting.rules import parse
from alerting.stored import ALERTS
from alerting.watch import Watch
from fusion.assessor import Assessor
from fusion.together.meeting import LoggedRecord, Meeting
from fusion.together.progress import MeetingRules
from model.bundle.bundle import Bundle
from model.bundle.runtime import Head
from schemas.parameters import Pollutant
from schemas.state import VERSION
from schemas.times import HOUR_MS
from streams.join import Expire
from tests.fusion.together.towns import START, Content, air, alone, ends, marks
from tests.golden import world

HERE = Path(__file__).parent
Kept = tuple[str, int, bytes]


def station_records() -> list[Kept]:
    """Keys, horizons and values of the state topic after the world's windows; both slots of the last hour."""
    head = Head(Bundle.load())
    assessor = Assessor(head, size_ms=world.MINUTE, lateness_ms=world.LATENESS, snapshots={})
    kept: dict[str, Kept] = {}
    steps = [Expire(view) for view in world.windows(head.bundle.encoder)]
    cut = len(steps) - 20
    for slot, part in enumerate((steps[:cut], steps[cut:])):
        done = part[-1].view.end
        for step in part:
            assessor.run([step], done, world.STATIONS.get)
        for name, at in assessor.horizons(done + world.LATENESS).items():
            if slot == 0 or at > kept[f"{name}#0"][1]:
                kept[f"{name}#{slot}"] = (f"{name}#{slot}", at, assessor.dump(name, at))
    return list(kept.values())


def alert_records() -> list[Kept]:
    """The same of the alert state topic; horizons are offsets."""
    watch = Watch(parse(world.RULES, "world"), world.HORIZON)
    estimates = world.estimates()
    watch.feed(estimates)
    return [(f"{name}#0", len(estimates), ALERTS.encode(state)) for name, state in watch.changes().items()]


def region_records() -> list[Kept]:
    """What three regions have learned; horizons are ends of hours. Some stations are silent, one is new."""
    kept = []
    for number, region in enumerate(("", "north", "south")):
        meeting = Meeting(MeetingRules(size=HOUR_MS, lateness=0, sources=1))
        entries, offset = [], 0
        for content in region_log(region, number):
            entries.append(LoggedRecord(offset, content))
            offset += 1
        meeting.feed(entries, offset, 0)
        ((name, at),) = meeting.horizons().items()
        kept.append((f"{name}|0#0", at, meeting.dump(name, at)))
    return kept


def region_log(region: str, number: int) -> Iterator[Content]:
    """Fifty hours of a region of three stations."""
    truth = air(3, 50, seed=number + 1)
    for row, end in zip(truth.tolist(), ends(50), strict=True):
        hour = (end - START) // HOUR_MS
        for column, name in enumerate(("a", "b", "c")):
            if (column == 1 and 20 < hour < 30) or (column == 2 and hour < 40):
                continue
            values: dict[Pollutant, float] = {"pm25": row[column]}
            if column == 0:
                values["co"] = 10.0 * row[column]
            yield alone(name, end, values, region=region, place=(45.0 + column / 30, 9.0))
        yield from marks(end)


def write(name: str, version: int, records: Iterable[Kept]) -> None:
    """One file, if there is none yet."""
    path = HERE / f"{name}-{version}.jsonl"
    if path.exists():
        return
    with path.open("w") as file:
        for key, at, value in records:
            line = {"key": key, "at": at, "value": base64.b64encode(value).decode()}
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    write("stations", VERSION, station_records())
    write("alerts", VERSION, alert_records())
    write("regions", VERSION, region_records())
