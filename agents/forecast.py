"""The forecast stage: estimates and weather in, each hour the next three days of every station out.

What is published is a function of the two logs, whenever they are read: before the first window after an hour
is taken, the forecasts of that hour are made from the estimates before it, and from the weather that the
broker had taken before that window (`WeatherLog`). Where that has not been read yet, estimates wait.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final

from forecast.outlook import Outlook
from forecast.stored import OUTLOOKS
from schemas.base import to_ms
from schemas.forecast import Forecast
from schemas.times import HOUR_MS
from streams import metrics, topics
from streams.accept import read_estimate, read_weather
from streams.checkpoint import Checkpoints
from streams.join import BEGINNING, Settled
from streams.letters import Letters
from streams.stage import Appended, KafkaRecord, Out, StageIo
from streams.stations import StationBook

#: Checkpoints that are on their way together; each may have a hundred kilobytes.
_TOGETHER: Final = 100
#: Weather that is read ahead of the estimates, in records.
_MOST_AHEAD: Final = 20_000
#: Seconds after which what is left of a poll waits for the next tick: a backlog of years would keep this
#: partition from committing for so long that its worker is taken for stuck, or for dead.
_AT_A_TIME: Final = 5.0


#: Of the weather's log, what had come to the broker before a time (ms).
WeatherLog = Callable[[int], Awaitable[Appended]]


class ForecastStage:
    """Forecasts of one partition.

    Forecasts are confirmed before anything is settled. Offsets are settled at the windows before which
    forecasts were made, with checkpoints of every station as it was there: a successor goes on from the last
    of them, and makes what came after it again, in the same bytes.
    """

    def __init__(
        self,
        io: StageIo,
        outlook: Outlook,
        stations: StationBook,
        checkpoints: Checkpoints,
        weather_log: WeatherLog,
        executor: Executor,
        *,
        lateness_ms: int,
    ) -> None:
        self._io = io
        self._outlook = outlook
        self._stations = stations
        self._checkpoints = checkpoints
        self._weather_log = weather_log
        self._executor = executor
        #: From the end of an hour until its windows are final.
        self._lateness_ms = lateness_ms
        self._topic = io.names.of(topics.ESTIMATES)
        self._weather_topic = io.names.of(topics.WEATHER)
        self._estimates: deque[KafkaRecord] = deque()
        self._weather: deque[KafkaRecord] = deque()
        self._weather_read = self._weather_taken = io.start(topics.WEATHER)[0]
        #: Offset after the last estimate that was taken.
        self._position = io.start(topics.ESTIMATES)[0]
        #: The window that waits for weather, and what it waits for.
        self._waits: tuple[int, Appended] | None = None
        #: Whether the newest hour was forecast from again, or needs no more.
        self._final = False
        #: Where checkpoints were written, and where they were committed: offsets of estimates and weather.
        self._written = self._settled = self._committed = self._position, self._weather_taken

    async def handle(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        """Take one poll's records."""
        if topic == self._stations.topic:
            # The fusion stage reads them too and dead-letters the unreadable.
            retired = self._stations.apply(records).retired
            self._outlook.forget(retired)
            await self._io.publish(self._checkpoints.forget(retired))
            return
        if topic == self._weather_topic:
            self._weather.extend(records)
            self._weather_read = records[-1].offset + 1
        else:
            assert topic == self._topic, f"{topic} is not what this stage reads"
            self._estimates.extend(records)
        await self._go_on()

    async def _go_on(self) -> None:
        """Take the estimates that wait, as far as the weather of their time has been read, for a while."""
        until = self._io.clock() + _AT_A_TIME
        while self._estimates and self._io.clock() < until:
            record = self._estimates[0]
            letters = Letters(self._io.names, "forecast")
            estimate = letters.read(record, partial(read_estimate, record, self._stations.keys))
            if estimate is not None:
                if not await self._forecast_before(record, to_ms(estimate.window.end)):
                    return
                letters.read(record, partial(self._outlook.take, estimate))
            letters.count([record])
            if len(letters):
                await self._io.publish(letters.out())
            self._estimates.popleft()
            self._position = record.offset + 1

    async def _forecast_before(self, record: KafkaRecord, end: int) -> bool:
        """Make the forecasts that are due before a window that ends at `end`; False where it has to wait."""
        hours = self._outlook.due(end)
        made = self._outlook.made
        final = made is not None and end >= (made + 1) * HOUR_MS + self._lateness_ms
        if not hours and (self._final or not final):
            return True
        if self._waits is None or self._waits[0] != record.offset:
            self._waits = record.offset, await self._weather_log(record.timestamp)
        log = self._waits[1]
        await self._take_weather(log.before)
        if max(self._weather_read, log.first) < log.before:
            return False
        self._waits = None
        self._weather_taken = max(self._weather_taken, log.before)
        records = self._stations.get
        if not self._final and made is not None:
            await self._publish(partial(self._outlook.again, records))
            self._final = True
        for hour in hours:
            await self._publish(partial(self._outlook.forecast, hour, records))
            self._final = False
        if hours:
            await self._keep(record.offset)
        return True

    async def _take_weather(self, before: int) -> None:
        letters = Letters(self._io.names, "forecast")
        taken = []
        while self._weather and self._weather[0].offset < before:
            record = self._weather.popleft()
            letters.read(record, partial(self._take_issue, record))
            taken.append(record)
        if taken:
            letters.count(taken)
            await self._io.publish(letters.out())

    def _take_issue(self, record: KafkaRecord) -> None:
        self._outlook.take_weather(read_weather(record, self._stations.keys), arrived=record.timestamp)

    async def _publish(self, make: Callable[[], list[Forecast]]) -> None:
        loop = asyncio.get_running_loop()
        with metrics.FORECAST_SECONDS.time():
            found = await loop.run_in_executor(self._executor, make)
        topic = self._io.names.of(topics.FORECASTS)
        await self._io.publish(
            Out(topic, one.station.encode(), one.model_dump_json().encode(), partition=self._io.partition)
            for one in found
        )
        metrics.FORECASTS.inc(len(found))

    async def _keep(self, offset: int) -> None:
        """Write checkpoints, unless those written last are not committed yet: they would be overwritten."""
        if self._settled != self._committed:
            return
        await self._io.publish(self._checkpoints.forget(self._outlook.forgotten()))
        stations = self._outlook.stations
        names = sorted(stations)
        for start in range(0, len(names), _TOGETHER):
            horizons = dict.fromkeys(names[start : start + _TOGETHER], offset)
            await self._io.publish(
                self._checkpoints.write(horizons, lambda name, _: OUTLOOKS.encode(stations[name]))
            )
        self._written = offset, self._weather_taken

    async def tick(self) -> None:
        """Go on with the estimates that were too many for one time."""
        await self._go_on()

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Where the checkpoints stand that were written last, and how far it has read."""
        self._settled = estimates, weather = self._written
        read = Settled(estimates, BEGINNING, self._position, BEGINNING)
        return {
            **self._stations.settled(),
            self._topic: (estimates, read.metadata()),
            self._weather_topic: (weather, ""),
        }

    def committed(self) -> None:
        """The checkpoints that were settled go with the committed offsets; later ones wait for their own."""
        if self._settled != self._committed:
            self._checkpoints.committed()
            self._committed = self._settled

    def paused(self) -> set[str]:
        """Estimates, while some wait; weather, while there is much of it and none is waited for."""
        paused = {self._topic} if self._estimates else set()
        if self._waits is None and len(self._weather) >= _MOST_AHEAD:
            paused.add(self._weather_topic)
        return paused

    async def close(self) -> None:
        """Nothing is held."""
