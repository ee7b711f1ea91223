"""What the API answers from, put together by `web.serve`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agents.rules_file import RulesSource
from alerting.explained import PendingAlert
from schemas.annotation import Annotation
from settings.sections import WebSettings
from sources.gateway.station_pages import StationPages
from web.access import Access
from web.answers import Ready
from web.follow import Follower
from web.history import SeriesHistory, StoreHistory
from web.live import Absent, LiveState
from web.neighbours import Neighbours
from web.pictures import CameraPictures
from web.workers import Workers

#: Seconds: newest windows older than this are of a while ago; and for so long after the last move the past is
#: said to be worked off.
A_WHILE_S: Final = 900.0
_MOVES_S: Final = 60.0


class PendingMemo:
    """Alerts on their way, as they were worked out last."""

    def __init__(self) -> None:
        self.version: tuple[int, int] | None = None
        self.found: list[tuple[str, PendingAlert]] = []


class StreamCounter:
    """How many streams are open, and how many there ever were; how many tables are being downloaded."""

    def __init__(self) -> None:
        self.open = 0
        self.ever = 0
        self.tables = 0


@dataclass(frozen=True)
class Parts:
    """What the API answers from."""

    settings: WebSettings
    live: LiveState
    follower: Follower
    #: Whole estimates, forecasts and notes.
    store: StoreHistory
    #: Series and quality: of InfluxDB where it may be read, else of the store.
    series: SeriesHistory
    access: Access
    workers: Workers
    rules: RulesSource
    ready: Ready
    counter: StreamCounter
    pending: PendingMemo
    neighbours: Neighbours
    records: StationPages
    #: Puts an annotation on its topic; raises SourceError.
    annotate: Callable[[Annotation], None]
    pictures: CameraPictures | None = None
    now: Callable[[], float] = time.time

    @property
    def away(self) -> Absent:
        """What does not answer now."""
        return Absent(self.follower.away_since, self.workers.away, self.coming, self.workers.behind)

    @property
    def coming(self) -> bool:
        """Whether what is shown is of a while ago, or nothing, because the past is being worked off."""
        if self.follower.away_since is not None:
            return False
        newest, now = self.live.furthest, self.now()
        if newest is None or now - newest / 1000 <= A_WHILE_S:
            return newest is None
        return not self.follower.read.is_set() or now - self.follower.moved_at <= _MOVES_S
