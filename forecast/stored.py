"""What is stored of a station's forecasts between two hours."""

from dataclasses import dataclass, field

import numpy as np

from forecast.contest import Contest
from forecast.guessed import GuessedHours, stands_in
from forecast.hours import SensedWeather, StationHours
from forecast.running import RunningRecord
from forecast.taught import LocalRecord
from forecast.weather import WeatherAtHand
from schemas.arrays import Float32
from schemas.state import Codec


@dataclass
class StationOutlook:
    """All that is remembered of a station; `heard`: end of its newest window, ms; `sensed`: the weather by
    its own sensors, `weather`: as it was issued; `guessed`: what stands in for measurements; `local`: what it
    taught.
    """

    station: str
    heard: int
    hours: StationHours
    weather: WeatherAtHand
    record: RunningRecord
    contest: Contest = field(default_factory=Contest)
    sensed: SensedWeather = field(default_factory=SensedWeather)
    guessed: GuessedHours = field(default_factory=GuessedHours)
    local: LocalRecord = field(default_factory=LocalRecord)

    def settle(self) -> bool:
        """Bring all hours up to date; whether what a forecast is made from has changed."""
        measured, sensed, guessed = self.hours.settle(), self.sensed.settle(), self.guessed.settle()
        return measured or sensed or (guessed and bool(stands_in(self.hours).any()))

    @property
    def sky(self) -> Float32:
        """The weather until now (LOOKBACK, channels): as it was issued, else by the station's own sensors."""
        issued = self.weather.past
        return np.where(np.isnan(issued), self.sensed.channels, issued)


OUTLOOKS = Codec("state of a station's forecasts", StationOutlook)


def read_outlook(_station: str, data: bytes) -> StationOutlook:
    """The state in a station's record. Raises StateError."""
    state = OUTLOOKS.decode(data)
    # What was read lies in the record's own bytes, which cannot be written to.
    state.hours.means, state.sensed.means = state.hours.means.copy(), state.sensed.means.copy()
    state.weather.values, state.weather.issued = state.weather.values.copy(), state.weather.issued.copy()
    state.guessed.means = state.guessed.means.copy()
    for later in (state.sensed, state.guessed):
        if not later.through:  # written before there was such a thing
            later.through = state.hours.through
    record = state.record
    record.offsets, record.made, record.raw = record.offsets.copy(), record.made.copy(), record.raw.copy()
    record.published, record.sums, record.scored = (
        record.published.copy(), record.sums.copy(), record.scored.copy(),
    )  # fmt: skip
    contest = state.contest
    contest.made, contest.medians, contest.scored = (
        contest.made.copy(), contest.medians.copy(), contest.scored.copy(),
    )  # fmt: skip
    contest.errors, contest.hours = contest.errors.copy(), contest.hours.copy()
    local = state.local
    local.made, local.kept, local.scored = local.made.copy(), local.kept.copy(), local.scored.copy()
    local.sums, local.tallies = local.sums.copy(), local.tallies.copy()
    return state
