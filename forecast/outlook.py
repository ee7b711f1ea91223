"""Forecasts of the stations of one partition, from estimates and weather, once an hour of event time. Pure.

The forecasts of an hour are made when the first window of a later hour comes: by then every window of it was
published. When its windows are final, or before those of the next hour, they are made once more where a
reading was late. All stations are taken together: they are each other's neighbours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aqi import standards
from forecast.contest import Contest
from forecast.features import LOOKBACK
from forecast.grades import graded
from forecast.guessed import GuessedHours, continued, input_of, widened
from forecast.hours import SensedWeather, StationHours
from forecast.local import HIGHEST, LOCAL
from forecast.mix import Mix, said_by_each
from forecast.models import ANCHORS, ForecastInputs, ForecastModel, interpolated, moved
from forecast.panel import HORIZON, QUANTILES, Panel
from forecast.places import place_of, regions, sun_offset
from forecast.reasons import another_spoke, reasons
from forecast.running import RunningRecord
from forecast.stored import StationOutlook
from forecast.taught import foretold, learn
from forecast.weather import WeatherAtHand
from schemas.arrays import Float32, Float64, Int64
from schemas.base import from_ms, to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.forecast import REASONS_HOURS, Forecast, ForecastReason, IndexForecast, PollutantForecast
from schemas.limits import FORGOTTEN_AFTER_MS, STATIONS_PER_PARTITION
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.station import Station
from schemas.times import HOUR_MS
from schemas.weather import WeatherIssue

#: Hours without any window after which a station has no forecasts until it speaks again.
_SILENT_HOURS: Final = 14 * 24
#: A pollutant that was not measured for so long is not measured at the station any more.
_MEASURED_HOURS: Final = 30 * 24
#: After a longer rest of the whole partition only the newest hours have forecasts.
MOST_HOURS_AT_ONCE: Final = 24
_HOURS: Final = tuple(range(1, HORIZON + 1))
_AT_ANCHORS: Final = [anchor - 1 for anchor in ANCHORS]
#: Of each of 72 hours the place of the first anchor that is not before it.
_ANCHOR_OF_HOUR: Final = np.searchsorted(ANCHORS, np.arange(1, HORIZON + 1))
_MEDIAN: Final = QUANTILES.index(0.5)
_LAST: Final = np.array([LOOKBACK - 1])

StationRecords = Callable[[str], Station | None]


class _ForetoldStations(NamedTuple):
    """Stations (their rows) that are foretold together, none or all by the weather to come."""

    rows: list[int]
    inputs: ForecastInputs


@dataclass(frozen=True)
class _Said:
    """What was made of all stations: (stations, 72, pollutants, 8) as the model has it, which of them by the
    weather to come, persistence (stations, pollutants), whether neighbours measure each (likewise), the
    medians of all models (stations, anchors, pollutants, models), the places of those that spoke, what is
    kept to be learned from (stations, anchors, pollutants, ...), and what it was made from, without and with
    the weather to come.
    """

    names: Sequence[str]
    raw: Float32
    told: Sequence[bool]
    last: Float32
    near: NDArray[np.bool_]
    medians: Float32
    speakers: Int64
    kept: NDArray[np.float16]
    asked: Sequence[_ForetoldStations]


class Outlook:
    """The stations of one partition.

    Args:
        models: what foretells. The last one as corrected at the station (`forecast.local`) speaks, unless
            another does better (`forecast.contest`).
        label: how that one is called in forecasts.
        typical: ug/m3 of each pollutant, where nothing was ever measured.
        default_standards: of stations without a record.
        stations: what is remembered, as of the hour that was forecast from last.
    """

    def __init__(
        self,
        models: Sequence[ForecastModel],
        label: str,
        typical: Sequence[float],
        default_standards: Sequence[str],
        stations: Mapping[str, StationOutlook],
    ) -> None:
        self._models = tuple(models)
        self._names = (*(model.name for model in models), LOCAL)
        self._label = label
        self._typical = tuple(typical)
        self._standards = tuple(default_standards)
        self.stations = dict(stations)
        for one in self.stations.values():
            if one.contest.models == self._names[:-1]:  # of before stations taught anything
                one.contest = one.contest.joined_by(LOCAL)
            if one.contest.models != self._names:  # another bundle's, or of before there was a contest
                one.contest = Contest.of(self._names)
        #: The newest hour (since 1970) that was forecast from; None: none yet.
        self.made: int | None = max((one.hours.through for one in stations.values()), default=None)

    def due(self, end: int) -> list[int]:
        """The hours to forecast from before a window that ends at `end` (ms) is taken."""
        over = (end - 1) // HOUR_MS - 1
        if self.made is None:
            self.made = over
        return list(range(max(self.made + 1, over - MOST_HOURS_AT_ONCE + 1), over + 1))

    def take(self, estimate: Estimate) -> None:
        """Count a window; `due` was asked before. Raises Refused where there are too many stations."""
        assert self.made is not None, "ask `due` first"
        # Where its region speaks for a station, the station is silent all the same.
        if estimate.unheard and estimate.station not in self.stations:
            return
        known = self._known(estimate.station)
        if not estimate.unheard:
            known.heard = max(known.heard, to_ms(estimate.window.end))
        known.hours.take(estimate)
        known.sensed.take(estimate)
        known.guessed.take(estimate)

    def take_weather(self, issue: WeatherIssue, *, arrived: int) -> None:
        """Keep what was issued for a station, and came to the broker at `arrived` (ms). Raises Refused."""
        known = self.stations.get(issue.station)
        if known is None:
            raise Refused(
                "unknown_station",
                f"no estimate of station {issue.station} was seen: weather is kept for stations that measure",
            )
        known.weather.take(issue, arrived=arrived)

    def _known(self, station: str) -> StationOutlook:
        known = self.stations.get(station)
        if known is None:
            if len(self.stations) >= STATIONS_PER_PARTITION:
                raise Refused(
                    "too_many_stations",
                    f"{STATIONS_PER_PARTITION} stations have forecasts on this partition, so {station} has"
                    " not: retire those that are gone, or use more partitions",
                )
            through = 0 if self.made is None else self.made
            known = self.stations[station] = StationOutlook(
                station, 0, StationHours(through), WeatherAtHand(through + 1 - LOOKBACK), RunningRecord(),
                Contest.of(self._names), SensedWeather(through), GuessedHours(through),
            )  # fmt: skip
        return known

    def forget(self, gone: Sequence[str]) -> None:
        """Stations that were taken out of service."""
        for station in gone:
            self.stations.pop(station, None)

    def forgotten(self) -> list[str]:
        """Let go of stations that were not heard for a season; gives them."""
        now = (0 if self.made is None else self.made) * HOUR_MS
        gone = [name for name, one in self.stations.items() if 0 < one.heard < now - FORGOTTEN_AFTER_MS]
        self.forget(gone)
        return gone

    def forecast(self, hour: int, records: StationRecords) -> list[Forecast]:
        """From the end of `hour` (since 1970), which is over, by station."""
        self.made = hour
        for one in self.stations.values():
            one.hours.advance(hour)
            one.sensed.advance(hour)
            one.guessed.advance(hour)
            one.weather.advance(hour)
        return self._publish(hour, self._speaking(hour), records, 1)

    def again(self, records: StationRecords) -> list[Forecast]:
        """From the same hour, where what was measured until then has changed since, as revision 2."""
        if self.made is None:
            return []
        hour = self.made
        changed = {name for name, one in self.stations.items() if one.settle()}
        return self._publish(hour, [name for name in self._speaking(hour) if name in changed], records, 2)

    def _speaking(self, hour: int) -> list[str]:
        since = (hour - _SILENT_HOURS) * HOUR_MS
        return sorted(name for name, one in self.stations.items() if one.heard > since)

    def _publish(
        self, hour: int, wanted: Sequence[str], records: StationRecords, revision: int
    ) -> list[Forecast]:
        if not wanted:
            return []
        for name in wanted:
            known = self.stations[name]
            known.record.come(hour, known.hours.means[-1])
            known.contest.come(hour, known.hours.means[-1])
        said = self._say(hour, wanted, records)
        rows = [said.names.index(name) for name in wanted]
        offsets = np.stack([self.stations[name].record.offsets for name in wanted])
        raw = said.raw[rows]
        published = moved(raw, interpolated(offsets, _HOURS, 1))
        for place, known in enumerate(map(self.stations.__getitem__, wanted)):
            here = continued(published[place], said.last[rows[place]], known.hours, known.guessed)
            published[place] = widened(here, known.hours, known.guessed)
        for place, (row, name) in enumerate(zip(rows, wanted, strict=True)):
            self.stations[name].record.say(
                hour, raw[place, _AT_ANCHORS], published[place, _AT_ANCHORS], said.last[row]
            )
            self.stations[name].contest.say(hour, said.medians[row])
            self.stations[name].local.say(hour, said.kept[row])
        leading = np.stack(
            [self._leading(name, hour, said.near[row]) for row, name in zip(rows, wanted, strict=True)]
        )
        indices = self._indices(hour, wanted, published, leading, records)
        short = six_digits(published)
        because = self._reasons(said, rows, leading)
        issued = from_ms((hour + 1) * HOUR_MS)
        made = []
        for place, (row, name) in enumerate(zip(rows, wanted, strict=True)):
            known = self.stations[name]
            at = known.weather.issued_at() if said.told[row] else 0
            made.append(
                Forecast(
                    station=name, issued_at=issued, revision=revision, model=self._label,
                    weather_issued_at=from_ms(at) if at else None,
                    pollutants=self._pollutants(known, short[place], said.speakers[row]),
                    history_h=known.hours.measured, reasons=because[place],
                    indices=tuple(indices[name]), scores=known.record.scores(known.contest.mean_errors),
                )
            )  # fmt: skip
        return made

    def _reasons(
        self, said: _Said, rows: Sequence[int], leading: NDArray[np.bool_]
    ) -> list[dict[Pollutant, ForecastReason]]:
        """Of the stations in `rows`, of the pollutants that make their indices (stations, pollutants)."""
        found: list[dict[Pollutant, ForecastReason]] = [{} for _ in rows]
        mix = self._models[-1]
        if not isinstance(mix, Mix):
            return found
        anchor = ANCHORS.index(REASONS_HOURS)
        for column, name in enumerate(POLLUTANTS):
            means = said.raw[:, REASONS_HOURS - 1, column, -1]
            speaks = said.speakers[:, anchor, column]
            asked = [place for place in range(len(rows)) if leading[place, column]]
            for place in asked:
                row = rows[place]
                if speaks[row] < len(self._models) - 1:
                    found[place][name] = another_spoke(
                        self._names[speaks[row]], float(said.last[row, column]), float(means[row])
                    )
            for together in said.asked:
                at = {row: number for number, row in enumerate(together.rows)}
                its_own = [place for place in asked if name not in found[place] and rows[place] in at]
                if not its_own:
                    continue
                some = [rows[place] for place in its_own]
                any_measured = [self.stations[said.names[row]].hours.measured > 0 for row in some]
                made = reasons(
                    mix, together.inputs, [at[row] for row in some], column, means[some].tolist(),
                    any_measured,
                )  # fmt: skip
                for place, reason in zip(its_own, made, strict=True):
                    found[place][name] = reason
        return found

    def _leading(self, name: str, hour: int, near: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(pollutants,): those that make the station's index. What is not measured there does not lead beside
        what is, as in estimates: `near` are those that neighbours measure.
        """
        measured = self.stations[name].record.scored > hour - _MEASURED_HOURS
        if measured.any():
            return measured
        return near if near.any() else np.ones_like(near)

    def _say(self, hour: int, wanted: Sequence[str], records: StationRecords) -> _Said:
        """What all stations are foretold; what came true at those `wanted` is learned from before."""
        names = self._speaking(hour)
        known = [self.stations[name] for name in names]
        panel = Panel(
            tuple(names), hour + 1 - LOOKBACK,
            tuple(sun_offset(records(name), hour) for name in names),
            np.stack([np.concatenate([input_of(one.hours, one.guessed), one.sky], axis=1) for one in known]),
            regions([place_of(records(name)) for name in names]),
        )  # fmt: skip
        told = [one.weather.tells() for one in known]
        raw = np.empty((len(names), HORIZON, len(POLLUTANTS), 8), np.float32)
        base = np.empty_like(raw)
        medians = np.empty((len(names), len(ANCHORS), len(POLLUTANTS), len(self._names)), np.float32)
        speakers = np.stack([one.contest.leaders() for one in known])
        inputs = ForecastInputs(panel)
        rows = [names.index(name) for name in wanted]
        for one in known:
            one.local.of(self._label)
        learn(
            [known[row].local for row in rows], hour, np.stack([known[row].hours.means[-1] for row in rows]),
            inputs.features, rows, self._typical,
        )  # fmt: skip
        asked = []
        for by_weather in (False, True):
            some = [row for row, has in enumerate(told) if has == by_weather]
            if some:
                features = inputs.features if len(some) == len(names) else inputs.features.only(some)
                weather = None
                if by_weather:
                    coming = np.stack([known[row].weather.coming for row in some])
                    weather = np.concatenate([features.weather, coming], axis=1)
                asked.append(_ForetoldStations(some, ForecastInputs(features.panel, weather, features)))
                raw[some], base[some], medians[some, ..., :-1] = self._ask(asked[-1].inputs, speakers[some])
        local, kept = foretold([one.local for one in known], base, inputs.features, self._typical)
        raw = np.where((speakers[:, _ANCHOR_OF_HOUR] == len(self._models))[..., None], local, raw)
        medians[..., -1] = local[:, _AT_ANCHORS][..., _MEDIAN]
        last = [inputs.features.last(place, usual)[:, -1] for place, usual in enumerate(self._typical)]
        near = np.isfinite(inputs.features.neighbours).sum(axis=1) > 0
        return _Said(
            names, raw, told, np.stack(last, axis=-1), near, medians, speakers, kept, asked
        )  # fmt: skip

    def _ask(self, inputs: ForecastInputs, speakers: Int64) -> tuple[Float32, Float32, Float32]:
        """What those say who speak (stations, anchors, pollutants): (stations, 72, pollutants, 8); what the
        last of the models says; and the medians of all (stations, anchors, pollutants, models).
        """
        # Between two anchors the one speaks that speaks at the later.
        whose = speakers[:, _ANCHOR_OF_HOUR]
        typical = np.array(self._typical, np.float32)[:, None]
        raw = np.empty((*whose.shape, 8), np.float32)
        medians = np.empty((*speakers.shape, len(self._models)), np.float32)
        one = raw
        for place, said in enumerate(said_by_each(self._models, inputs, _LAST, _HOURS)):
            one = said[:, 0]
            # One that fails on what nobody thought of must not take the other stations' forecasts with it.
            one = np.where(np.isfinite(one), np.clip(one, np.float32(0.0), np.float32(HIGHEST)), typical)
            raw = np.where((whose == place)[..., None], one, raw)
            medians[..., place] = one[..., _MEDIAN][:, _AT_ANCHORS]
        return raw, one, medians

    def _indices(
        self,
        hour: int,
        wanted: Sequence[str],
        published: Float32,
        leading: NDArray[np.bool_],
        records: StationRecords,
    ) -> dict[str, list[IndexForecast]]:
        """By station, its standards in their order, but those that have none of the `leading` pollutants."""
        asked: dict[tuple[str, float], list[int]] = {}
        lists: list[list[tuple[str, float]]] = []
        for place, name in enumerate(wanted):
            record = records(name)
            chosen = [
                standards.load(standard, at_ms=(hour + 1) * HOUR_MS)
                for standard in (record.standards if record else self._standards)
            ]
            keys = [(standard.id, chosen[0].reference_celsius) for standard in chosen]
            lists.append(keys)
            for key in keys:
                asked.setdefault(key, []).append(place)
        found: dict[tuple[str, float, int], IndexForecast] = {}
        for (edition, celsius), places in asked.items():
            made = graded(published[places], leading[places], standards.load(edition), celsius)
            for place, index in zip(places, made, strict=True):
                if index is not None:
                    found[edition, celsius, place] = index
        return {
            name: [found[(*key, place)] for key in lists[place] if (*key, place) in found]
            for place, name in enumerate(wanted)
        }

    def _pollutants(
        self, known: StationOutlook, said: Float64, speakers: Int64
    ) -> dict[Pollutant, PollutantForecast]:
        day = known.hours.means[-24:]
        guessed = np.isnan(day).mean(axis=0).tolist()
        found: dict[Pollutant, PollutantForecast] = {}
        for column, name in enumerate(POLLUTANTS):
            levels = said[:, column].T.tolist()
            found[name] = PollutantForecast(
                mean=tuple(levels[-1]), quantiles=tuple(map(tuple, levels[:-1])),
                imputed_share=round(guessed[column], 4),
                models={
                    str(anchor): self._names[speakers[at, column]]
                    for at, anchor in enumerate(ANCHORS)
                    if speakers[at, column] != len(self._names) - 1
                },
            )  # fmt: skip
        return found


def six_digits(values: Float32) -> Float64:
    """Rounded to six digits, and to millionths: what is published."""
    exact = values.astype(np.float64)
    with np.errstate(divide="ignore"):
        digits = 5 - np.floor(np.log10(np.maximum(exact, 1e-6)))
    scale = 10.0 ** np.clip(digits, 0, 6)
    rounded: Float64 = np.round(exact * scale) / scale
    return rounded
