"""The live table of `skyfuse up`: what the network shows now, how fresh it is, and how the workers fare."""

import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final, NamedTuple, Self

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.shared.cells import index_cell, leading, pollutant_cell
from cli.shared.fitting import natural_width
from cli.shared.times import age_words, local_time
from cli.shared.wording import counted
from fleet.condition import stale_after_s
from schemas.base import format_time
from schemas.estimate import Estimate
from schemas.parameters import LABELS, POLLUTANTS, Pollutant

_SIDES: Final = {
    "both": "camera + sensors",
    "image": "camera",
    "sensors": "sensors",
    "none": "nothing usable",
}
#: Share of a value from which on neighbours are named beside what the station itself sent.
_TELLING: Final = 0.05
#: No station's newest window is stale before it is so old.
_STALE_AFTER: Final = timedelta(seconds=stale_after_s(0.0, 0))
#: Old windows that follow one another no more slowly are history that is being caught up with.
_STILL: Final = timedelta(minutes=1)
#: A window that ended longer ago is history being caught up with: its age is no delay.
_HISTORY_SECONDS: Final = 900.0
#: Seconds over which rates are taken.
_RATE_SPAN: Final = 60.0


@dataclass(frozen=True)
class Wait:
    """A sink that waits for its engine: `why` in a few words, `since` in s since 1970."""

    sink: str
    why: str
    since: float

    @property
    def engine(self) -> str:
        """What is waited for."""
        return {"influx": "InfluxDB", "store": "the local store"}.get(self.sink, self.sink)

    def words(self, now: datetime) -> str:
        """In words, with the time and how long ago that is."""
        since = datetime.fromtimestamp(self.since, UTC)
        return (
            f"{self.engine} {self.why or 'is away'}: the {self.sink} sink waits since"
            f" {moment_of(since, now)} ({age_words(now - since)}), nothing is lost"
        )


@dataclass
class Pipeline:
    """Figures read from the workers' /metrics."""

    urls: Mapping[str, str]
    frames: deque[tuple[float, float]] = field(default_factory=deque)
    dead_letters: int = 0
    late: int = 0
    estimates: int = 0
    imputed: int = 0
    lag_seconds: float = 0.0
    away: tuple[str, ...] = ()
    rules_refused: bool = False
    waits: tuple[Wait, ...] = ()
    takes: frozenset[str] = frozenset()

    def read(self) -> None:
        """Read every worker once."""
        totals: dict[str, float] = {}
        lag = 0.0
        away = []
        waits = []
        takes = set()
        for role, url in self.urls.items():
            try:
                with urllib.request.urlopen(url, timeout=1.0) as answer:
                    text = answer.read().decode()
            except (OSError, urllib.error.URLError):
                away.append(role)
                continue
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
                    if sample.name == "aq_consumer_lag_seconds":
                        lag = max(lag, sample.value)
                    elif sample.name == "aq_sink_waits_since_seconds":
                        waits.append(Wait(sample.labels["sink"], sample.labels["why"], sample.value))
                    elif sample.name == "aq_gateway_takes" and sample.value:
                        takes.add(sample.labels["way"])
        self.waits = tuple(waits)
        self.takes = frozenset(takes)
        self.away = tuple(away)
        self.lag_seconds = lag
        self.dead_letters = int(totals.get("aq_dlq_total", 0))
        self.late = int(totals.get("aq_late_events_total", 0))
        self.estimates = int(totals.get("aq_window_emitted_total", 0))
        self.imputed = int(totals.get("aq_imputed_values_total", 0))
        self.rules_refused = bool(totals.get("aq_alert_rules_refused", 0))
        now = time.monotonic()
        self.frames.append((now, totals.get("aq_frames_total", 0.0)))
        while now - self.frames[0][0] > _RATE_SPAN:
            self.frames.popleft()

    @property
    def frames_per_second(self) -> float:
        """Frames through the vision stage, over the last seconds."""
        (then, before), (now, after) = self.frames[0], self.frames[-1]
        return max(0.0, after - before) / (now - then) if now > then else 0.0

    def line(self) -> str:
        """One line of figures."""
        text = (
            f"{counted(self.estimates, 'estimate')} · {self.frames_per_second:.1f} frames/s"
            f" · lag {self.lag_seconds:.1f} s · {counted(self.imputed, 'value')} imputed · {self.late} late"
            f" · {counted(self.dead_letters, 'dead letter')}"
        )
        if self.rules_refused:
            text += " · the changed alert rules are wrong (skyfuse doctor), those before stay in force"
        text += "".join(f" · {wait.words(utc_now())}" for wait in self.waits)
        return text + (f" · not answering: {', '.join(self.away)}" if self.away else "")


class Freshness:
    """When each station's newest window was first seen: its end-to-end delay."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[datetime, float | None]] = {}
        #: When a window that is newer than those before was seen last; None: only what was there at first.
        self._moved: datetime | None = None
        self._noted = False

    def note(self, estimates: Sequence[Estimate], now: datetime) -> None:
        """Look at the newest estimates, at first at those of before the start."""
        for estimate in estimates:
            end = estimate.window.end
            before = self._seen.get(estimate.station)
            if before is None:
                if self._noted:
                    self._moved = now
                self._seen[estimate.station] = end, None
            elif end > before[0]:
                self._moved = now
                delay = (now - end).total_seconds()
                self._seen[estimate.station] = end, delay if delay < _HISTORY_SECONDS else None
        self._noted = True

    def why_stale(self, now: datetime) -> str:
        """Why stations are grey, in a few words."""
        newest = max((end for end, _ in self._seen.values()), default=now)
        if not self._seen or now - newest <= _STALE_AFTER:
            return "nothing new for long"
        if self._moved is None:
            return "of before this start; nothing new has come yet"
        if now - self._moved > _STILL:
            return "nothing new for long"
        return f"history is being caught up with, {age_words(now - newest)} behind"

    def delay(self, station: str) -> float | None:
        """Seconds from the end of the newest window to its being seen (None until one was awaited)."""
        return self._seen.get(station, (None, None))[1]


@dataclass(frozen=True)
class _LiveColumns:
    """What the table has room for."""

    pollutants: tuple[Pollutant, ...]
    intervals: bool = False
    sides: bool = False
    delay: bool = False
    local: bool = False


def _layouts(estimates: Sequence[Estimate]) -> Iterator[_LiveColumns]:
    """From the widest to the narrowest: intervals and columns go, a number is never cut."""
    yield _LiveColumns(POLLUTANTS, intervals=True, sides=True, delay=True, local=True)
    yield _LiveColumns(POLLUTANTS, intervals=True, sides=True, local=True)
    yield _LiveColumns(POLLUTANTS, sides=True, local=True)
    yield _LiveColumns(POLLUTANTS, local=True)
    yield _LiveColumns(POLLUTANTS)
    there = [name for name in POLLUTANTS if any(name in one.pollutants for one in estimates)]
    for count in range(len(there), 0, -1):
        yield _LiveColumns(tuple(there[:count]))


class Told(NamedTuple):
    """What stands below the table: what to look at, and what happened."""

    hints: Sequence[str] = ()
    notes: Sequence[str] = ()


class Clocks(NamedTuple):
    """What time it is, stations whose newest window is no news any more by that, and zones of stations whose
    clocks do not show UTC."""

    now: datetime
    stale: Collection[str] = ()
    zones: Mapping[str, tzinfo] = {}


def picture(
    estimates: Sequence[Estimate],
    freshness: Freshness,
    pipeline: Pipeline,
    told: Told,
    clocks: Clocks,
    console: Console,
) -> RenderableType:
    """The whole screen, as wide as `console`."""
    (hints, notes), (now, stale, zones) = told, clocks
    rows = sorted(estimates, key=lambda estimate: estimate.station)
    for layout in _layouts(rows):
        table = _table(rows, freshness, now, stale, zones, layout)
        if natural_width(console, table) <= console.width:
            break
    legend = Text("measured · " if layout.intervals else "µg/m³: measured · ", "default")
    legend.append("~imputed (90 % interval)" if layout.intervals else "~imputed", "italic")
    if stale:
        legend.append(f" · grey: {freshness.why_stale(now)}", "dim")
    missing = [LABELS[name] for name in POLLUTANTS if name not in layout.pollutants]
    if missing:
        legend.append(f" · a wider terminal shows {', '.join(missing)}", "dim")
    parts: list[RenderableType] = [table, legend, *(Text(hint, "bold") for hint in hints)]
    parts.append(Text(pipeline.line(), "cyan"))
    parts += [Text(note, "yellow") for note in notes]
    return Group(*parts)


def _table(
    rows: Sequence[Estimate],
    freshness: Freshness,
    now: datetime,
    stale: Collection[str],
    zones: Mapping[str, tzinfo],
    layout: _LiveColumns,
) -> Table:
    local = layout.local and any(estimate.station in zones for estimate in rows)
    title = f"skyfuse · {now:%Y-%m-%d %H:%M:%S} UTC"
    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold"
    )
    table.add_column("Station", overflow="fold")
    table.add_column("AQI", no_wrap=True)
    for name in layout.pollutants:
        head = f"{LABELS[name]} µg/m³" if name == "pm25" and layout.intervals else LABELS[name]
        table.add_column(head, justify="right", no_wrap=True)
    if layout.sides:
        table.add_column("From", no_wrap=True)
    table.add_column("Window", justify="right", no_wrap=True)
    if local:
        table.add_column("Local", justify="right", no_wrap=True)
    table.add_column("Age", justify="right", no_wrap=True)
    if layout.delay:
        table.add_column("Delay", justify="right", no_wrap=True)
    for estimate in rows:
        old = estimate.station in stale
        delay = freshness.delay(estimate.station)
        cells = [index_cell(leading(estimate), estimate.window.end)]
        cells += [
            pollutant_cell(estimate.pollutants.get(name), interval=layout.intervals)
            for name in layout.pollutants
        ]
        if layout.sides:
            cells.append(Text(_witnesses(estimate)))
        age = age_words(now - estimate.window.end)
        when = moment_of(estimate.window.end, now, layout.sides)
        cells.append(Text(when))
        if local:
            cells.append(Text(local_time(estimate.window.end, zones.get(estimate.station))))
        cells.append(Text(f"{age} old" if old else age))
        if layout.delay:
            cells.append(Text("" if delay is None else f"{delay:.0f} s"))
        if old:  # grey, and without the colour of its category: it says nothing of the air now
            cells = [Text(cell.plain, "bright_black") for cell in cells]
        table.add_row(Text(estimate.station, "bright_black" if old else ""), *cells)
    return table


def told_by_neighbours(estimate: Estimate) -> bool:
    """Whether neighbours carry any of a window's values."""
    return any(one.weights.get("neighbours", 0.0) >= _TELLING for one in estimate.pollutants.values())


def _witnesses(estimate: Estimate) -> str:
    """What a window's values are from: its own camera and sensors, and the neighbours."""
    if estimate.unheard:
        return "neighbours"
    sides = _SIDES[estimate.sides]
    return f"{sides} + neighbours" if told_by_neighbours(estimate) else sides


class Drawing:
    """A picture on a terminal that is drawn over itself; `head`: a line above it.

    Where the terminal's size has changed the screen is cleared first: the terminal has folded the lines of
    the picture before, and nobody knows how many they are now.
    """

    def __init__(self, console: Console, head: str) -> None:
        self._console = console
        self._head = head
        self._size = console.size
        self._live = self._new()

    def _new(self) -> Live:
        return Live(console=self._console, auto_refresh=False, screen=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def draw(self, shown: RenderableType) -> None:
        """Show this instead of what was shown before."""
        size = self._console.size
        if size != self._size:
            self._size = size
            self._live.transient = True
            self._live.stop()
            self._console.clear()
            self._console.print(self._head, highlight=False)
            self._live = self._new()
            self._live.start()
        self._live.update(shown, refresh=True)


def moment_of(end: datetime, now: datetime, room: bool = True) -> str:
    """The end of a window: the time of day, with its date where that is not today's.

    Without room for both, the time of what is less than a day old, and the date of what is older.
    """
    if end.date() == now.date() or (not room and abs(now - end) < timedelta(days=1)):
        return f"{end:%H:%M}"
    return f"{end:%Y-%m-%d %H:%M}" if room else f"{end:%Y-%m-%d}"


def is_stale(age: timedelta, ends: Sequence[datetime]) -> bool:
    """Whether a station whose newest window has this age says nothing of the present any more.

    A few of its own gaps are waited for: `ends` are those of its last windows, newest first. The longest gap
    is taken for an outage where there are others.
    """
    gaps = sorted((later - earlier for later, earlier in pairwise(ends)), reverse=True)
    usual = gaps[1 if len(gaps) > 1 else 0] if gaps else timedelta()
    return age > timedelta(seconds=stale_after_s(usual.total_seconds(), 0))


def line(estimate: Estimate, freshness: Freshness, now: datetime) -> str:
    """One estimate as a line, for output that is no terminal."""
    block = leading(estimate)
    index = (
        "-" if block is None or block.index is None else f"{block.index} ({block.category}, {block.status})"
    )
    delay = freshness.delay(estimate.station)
    values = " ".join(
        f"{name}={'~' if value.kind == 'imputed' else ''}{value.value:.1f}"
        + (f"[{value.lo:.0f}..{value.hi:.0f}]" if value.lo is not None and value.hi is not None else "")
        for name, value in estimate.pollutants.items()
    )
    late = "" if delay is None else f" delay={delay:.0f}s"
    others = "+neighbours" if told_by_neighbours(estimate) else ""
    end = estimate.window.end
    when = f"{end:%H:%M:%SZ}" if end.date() == now.date() else format_time(end)
    old = f" ({age_words(now - end)} old)" if now - end > _STALE_AFTER else ""
    return f"{when}{old} {estimate.station}: AQI {index} {values} from={estimate.sides}{others}{late}"


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
