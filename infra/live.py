"""The live table of `skyfuse up`: what the network shows now, how fresh it is, and how the workers fare."""

import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.commands.query import index_cell, leading, pollutant_cell
from schemas.estimate import Estimate
from schemas.parameters import PARAMETERS

_HEADS: Final = {"pm25": "PM2.5", "pm10": "PM10", "no2": "NO2", "so2": "SO2", "co": "CO", "o3": "O3"}
#: A window that ended longer ago is history being caught up with: its age is no delay.
_HISTORY_SECONDS: Final = 900.0
#: Seconds over which rates are taken.
_RATE_SPAN: Final = 60.0


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

    def read(self) -> None:
        """Read every worker once."""
        totals: dict[str, float] = {}
        lag = 0.0
        away = []
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
        self.away = tuple(away)
        self.lag_seconds = lag
        self.dead_letters = int(totals.get("aq_dlq_total", 0))
        self.late = int(totals.get("aq_late_events_total", 0))
        self.estimates = int(totals.get("aq_window_emitted_total", 0))
        self.imputed = int(totals.get("aq_imputed_values_total", 0))
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
            f"{self.estimates} estimates · {self.frames_per_second:.1f} frames/s"
            f" · lag {self.lag_seconds:.1f} s · {self.imputed} values imputed · {self.late} late"
            f" · {self.dead_letters} dead letters"
        )
        return text + (f" · not answering: {', '.join(self.away)}" if self.away else "")


class Freshness:
    """When each station's newest window was first seen: its end-to-end delay."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[datetime, float | None]] = {}

    def note(self, estimates: Sequence[Estimate], now: datetime) -> None:
        """Look at the newest estimates."""
        for estimate in estimates:
            end = estimate.window.end
            before = self._seen.get(estimate.station)
            if before is None:
                self._seen[estimate.station] = end, None
            elif end > before[0]:
                delay = (now - end).total_seconds()
                self._seen[estimate.station] = end, delay if delay < _HISTORY_SECONDS else None

    def delay(self, station: str) -> float | None:
        """Seconds from the end of the newest window to its being seen (None until one was awaited)."""
        return self._seen.get(station, (None, None))[1]


def picture(
    estimates: Sequence[Estimate],
    freshness: Freshness,
    pipeline: Pipeline,
    notes: Sequence[str],
    now: datetime,
) -> RenderableType:
    """The whole screen."""
    table = Table(title=f"skyfuse · {now:%Y-%m-%d %H:%M:%S} UTC", title_justify="left", expand=False)
    table.add_column("Station")
    table.add_column("AQI")
    for name in PARAMETERS:
        table.add_column(f"{_HEADS[name]} µg/m³" if name == "pm25" else _HEADS[name], justify="right")
    table.add_column("From")
    table.add_column("Window", justify="right")
    table.add_column("Delay", justify="right")
    for estimate in sorted(estimates, key=lambda e: e.station):
        stale = now - estimate.window.end > timedelta(minutes=10)
        delay = freshness.delay(estimate.station)
        table.add_row(
            estimate.station,
            index_cell(leading(estimate), estimate.window.end),
            *(pollutant_cell(estimate.pollutants.get(name)) for name in PARAMETERS),
            {"both": "camera + sensors", "image": "camera", "sensors": "sensors", "none": "nothing usable"}[
                estimate.sides
            ],
            f"{estimate.window.end:%H:%M}",
            "" if delay is None else f"{delay:.0f} s",
            style="dim" if stale else "",
        )
    legend = Text("measured · ", "default")
    legend.append("~imputed (90 % interval)", "italic")
    parts: list[RenderableType] = [table, legend, Text(pipeline.line(), "cyan")]
    parts += [Text(note, "yellow") for note in notes]
    return Group(*parts)


def line(estimate: Estimate, freshness: Freshness) -> str:
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
    when = f"{estimate.window.end:%H:%M:%SZ}"
    return f"{when} {estimate.station}: AQI {index} {values} from={estimate.sides}{late}"


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
