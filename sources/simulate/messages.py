"""What the simulated stations send, in event-time order: an endless pure generator."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from schemas.base import from_ms
from schemas.frame import FrameHeader
from schemas.reading import Reading, Value
from sources.simulate.city import CAMERA, City, SimulatedStation
from sources.simulate.noise import key, uniform
from sources.simulate.scene import render
from sources.simulate.sensors import measured, unit_of
from streams.topics import FRAMES, READINGS

#: Frames that a camera fails to take.
_FRAMES_LOST: Final = 0.03


@dataclass(frozen=True, slots=True)
class SimulatedMessage:
    """A record to produce."""

    topic: str  #: name in streams.topics, without prefix
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    time_ms: int  #: event time


def messages(city: City, start_ms: int, frame_period_ms: int | None) -> Iterator[SimulatedMessage]:
    """Readings and frames of all stations with event times from `start_ms` on, in order, without end.

    Each station reads every 10 s (some sensors more rarely) and takes a frame every `frame_period_ms` (None:
    never), each at its own place in the period. The same city and times give the same messages, whatever
    `start_ms`. A message is made when it is asked for: nothing is drawn or kept for later.
    """
    sources = [
        (_times(start_ms, period_ms, int(station.reading_phase * period_ms)), _reading, station, period_ms)
        for station in city.stations
        for period_ms in sorted({station.period_ms(sensor.sensor) for sensor in station.record.sensors})
    ]
    if frame_period_ms is not None:
        sources += [
            (
                _times(start_ms, frame_period_ms, int(station.frame_phase * frame_period_ms)),
                _frame,
                station,
                frame_period_ms,
            )
            for station in city.stations
            if station.has_camera
        ]
    due = [(next(times), number) for number, (times, *_) in enumerate(sources)]
    heapq.heapify(due)
    while due:
        time_ms, number = due[0]
        times, make, station, period_ms = sources[number]
        heapq.heapreplace(due, (next(times), number))
        message = make(city, station, period_ms, time_ms)
        if message is not None:
            yield message


def _times(start_ms: int, period_ms: int, phase_ms: int) -> Iterator[int]:
    time_ms = start_ms + (phase_ms - start_ms) % period_ms
    while True:
        yield time_ms
        time_ms += period_ms


def _reading(city: City, station: SimulatedStation, period_ms: int, time_ms: int) -> SimulatedMessage | None:
    values = tuple(
        Value(
            parameter=value.parameter,
            value=value.value,
            unit=unit_of(value.parameter),
            sensor=value.sensor,
        )
        for value in measured(city, station, time_ms)
        if station.period_ms(value.sensor) == period_ms
    )
    if not values:
        return None
    reading = Reading(station=station.id, observed_at=from_ms(time_ms), values=values)
    return SimulatedMessage(
        READINGS.name,
        station.id.encode(),
        reading.model_dump_json(exclude_defaults=True).encode(),
        [],
        time_ms,
    )


def _frame(city: City, station: SimulatedStation, period_ms: int, time_ms: int) -> SimulatedMessage | None:
    del period_ms
    if uniform(key(station.key, "frames lost"), time_ms) < _FRAMES_LOST:
        return None
    header = FrameHeader(
        id=f"{station.id}-{time_ms}",
        source=f"skyfuse/simulate/{city.seed}",
        time=from_ms(time_ms),
        station=station.id,
        camera=CAMERA,
    )
    return SimulatedMessage(
        FRAMES.name, station.id.encode(), render(city, station, time_ms), header.to_headers(), time_ms
    )
