"""Forecasts in the stream: what an evaluation says, from whatever there is, and nothing of the future."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.bundle import ForecastBundle
from forecast.calibration import calibrated
from forecast.features import LOOKBACK
from forecast.hours import OPEN_HOURS, StationHours
from forecast.models import ForecastInputs, ForecastModel, Origins
from forecast.outlook import Outlook, six_digits
from forecast.panel import CHANNELS, Panel, dewpoint, wind_of
from forecast.rehearsal import rehearsed
from forecast.stored import OUTLOOKS, read_outlook
from schemas.arrays import Float32
from schemas.base import from_ms, to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate, Window
from schemas.forecast import REASONS_HOURS, Forecast
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from schemas.times import HOUR_MS
from schemas.weather import WeatherHour, WeatherIssue
from tests.forecast.small import small_bundle
from tests.samples import T0, estimate, imputed, measured

P = len(POLLUTANTS)
#: Hours since 1970 of a first of June.
BEGINS = 489_192
HORIZONS = (1, 3, 6, 12, 24, 48, 72)
#: When weather comes that was issued long before.
LATER = (BEGINS + 9000) * HOUR_MS


@cache
def models() -> list[ForecastModel]:
    return ForecastBundle.load(small_bundle()).models()


@cache
def typical() -> tuple[float, ...]:
    return ForecastBundle.load(small_bundle()).normalisation.typical


def fresh(model: int = -1) -> Outlook:
    return Outlook([models()[model]], "small", typical(), ("us-epa-2024",), {})


def fresh_with(kept: bytes) -> Outlook:
    """As it was stored of a station."""
    return Outlook([models()[0]], "small", typical(), ("us-epa-2024",), {"s0": read_outlook("s0", kept)})


def air(stations: int, hours: int, seed: int = 1) -> Float32:
    """(stations, hours, channels), with gaps, without weather."""
    random = np.random.default_rng(seed)
    level = np.cumsum(random.normal(0, 0.2, (stations, hours, P)), axis=1)
    values = np.full((stations, hours, len(CHANNELS)), np.nan, np.float32)
    values[..., :P] = np.round(40 * np.exp(0.5 * np.tanh(level)), 2)
    values[random.random(values.shape) < 0.1] = np.nan
    return values


def window(station: str, hour: int, values: Float32, minutes: tuple[int, int] = (0, 60), revision: int = 1):
    begins = (BEGINS + hour) * HOUR_MS
    return estimate(
        station, T0 + 60, revision,
        {
            name: measured(float(value))
            for name, value in zip(POLLUTANTS, values.tolist(), strict=False)
            if np.isfinite(value)
        },
        window=Window(
            start=from_ms(begins + minutes[0] * 60_000), end=from_ms(begins + minutes[1] * 60_000)
        ),
    )  # fmt: skip


def test_noise_below_zero_belongs_into_an_hours_mean_which_is_not_below_it() -> None:
    hours = StationHours(BEGINS - 1)
    for hour, (first, second) in enumerate(((-8.0, 4.0), (-8.0, 2.0))):
        for minutes, value in (((0, 15), first), ((15, 60), second)):
            hours.take(window("s0", hour, np.array([value], np.float32), minutes))
        hours.advance(BEGINS + hour)
    assert hours.means[-2:, 0].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("rest", [1, 2, 3, 4, 30, LOOKBACK, LOOKBACK + 5])
def test_the_last_hours_before_a_rest_are_told(rest: int) -> None:
    """As a whole partition's: its next hours are asked for at once."""
    at_once, one_by_one = StationHours(BEGINS - 1), StationHours(BEGINS - 1)
    for hours in (at_once, one_by_one):
        for hour in range(2):
            hours.take(window("s0", hour, np.array([7.0 + hour], np.float32)))
    at_once.advance(BEGINS + rest)
    for hour in range(rest + 1):
        one_by_one.advance(BEGINS + hour)
    np.testing.assert_array_equal(at_once.means, one_by_one.means)
    assert np.isfinite(at_once.means).sum() == max(0, min(2, LOOKBACK - rest + 1))


def play(outlook: Outlook, values: Float32, first: int = 0, records=lambda _: None) -> list[Forecast]:
    """Two windows an hour of each station; what is published on the way."""
    told = []
    for hour in range(first, values.shape[1]):
        for minutes in ((0, 15), (15, 60)):
            for row in range(values.shape[0]):
                one = window(f"s{row}", hour, values[row, hour], minutes)
                for due in outlook.due(to_ms(one.window.end)):
                    told += outlook.forecast(due, records)
                outlook.take(one)
    return told


def of_folder(asked: Sequence[ForecastModel], panel: Panel) -> Float32:
    """What an evaluation says would have been published, from every hour of a panel."""
    origins, inputs = np.arange(panel.hours), ForecastInputs(panel)
    nothing = np.full((len(panel.stations), 72, P), np.nan, np.float32)
    padded = np.concatenate([panel.values[..., :P], nothing], axis=1)
    truth = np.stack([padded[:, origins + horizon] for horizon in HORIZONS], axis=2)
    said = [model.predict(inputs, origins, HORIZONS) for model in asked]
    *_, published = rehearsed(said, truth, inputs.features, origins, HORIZONS, typical(), 1)
    return calibrated(published, truth, HORIZONS, 1)


@pytest.mark.parametrize(("last", "dirt", "others"), [(-1, 1, set()), (2, 20, {"persistence"})])
def test_the_stream_says_what_an_evaluation_says(last: int, dirt: int, others: set[str]) -> None:
    """Of the mix as it is corrected, and where climatology is plainly wrong, so that another one speaks."""
    hours = 30
    values = air(3, hours + 1)
    values[..., :P] *= dirt
    asked = [models()[0], models()[last]]
    told = play(Outlook(asked, "small", typical(), ("us-epa-2024",), {}), values)
    panel = Panel(("s0", "s1", "s2"), BEGINS, (0.0,) * 3, values[:, :hours])
    said = of_folder(asked, panel)
    raw = asked[1].predict(ForecastInputs(panel), np.array([hours - 1]), HORIZONS)
    assert np.abs(raw[..., -1] - said[:, -1:, ..., -1])[:, 0, 0].max() > 1.0, "nothing was corrected"
    assert {name for one in told for name in one.pollutants["pm25"].models.values()} == others
    assert len(told) == 3 * hours
    for one in told:
        row, origin = int(one.station[1]), to_ms(one.issued_at) // HOUR_MS - 1 - BEGINS
        for column, name in enumerate(POLLUTANTS):
            found = [*one.pollutants[name].quantiles, one.pollutants[name].mean]
            for place, horizon in enumerate(HORIZONS):
                np.testing.assert_allclose(
                    [level[horizon - 1] for level in found], said[row, origin, place, column],
                    rtol=1e-5, atol=1e-5,
                )  # fmt: skip
    scores = told[-1].scores["pm25"]
    assert set(scores) == {"1", "3", "6", "12", "24"}
    assert scores["1"].count > scores["24"].count > 0


def test_a_stored_state_goes_on_with_the_same_bytes() -> None:
    values = air(2, 16)
    whole = play(fresh(), values)
    first = fresh()
    before = play(first, values[:, :9])
    kept = {name: read_outlook(name, OUTLOOKS.encode(one)) for name, one in first.stations.items()}
    after = play(Outlook([models()[-1]], "small", typical(), ("us-epa-2024",), kept), values, 9)
    assert [one.model_dump_json() for one in whole] == [one.model_dump_json() for one in [*before, *after]]


@pytest.mark.parametrize("hours", [1, 6, 30])
def test_any_history_gives_a_forecast(hours: int) -> None:
    values = air(1, hours + 1)
    values[..., 1:P] = np.nan
    one = play(fresh(), values)[-1]
    assert set(one.pollutants) == set(POLLUTANTS)
    assert one.pollutants["o3"].imputed_share == 1.0
    assert one.indices[0].standard == "us-epa-2024"
    sums = np.sum(one.indices[0].probabilities, axis=0)
    np.testing.assert_allclose(sums, 1.0, atol=1e-3)


def test_a_station_that_measures_nothing_is_foretold_by_what_is_imputed_and_as_wide() -> None:
    """A camera alone: the fan begins where the estimate is, wider than if that had been measured."""

    def estimates(kind: str) -> Forecast:
        outlook = fresh(0)
        told: list[Forecast] = []
        for hour in range(4):
            one = window("s0", hour, np.array([60.0], np.float32))
            if kind == "imputed":
                guess = {"pm25": imputed(60.0, 30.0, 120.0), "o3": imputed(50.0, 20.0, 90.0)}
                one = one.model_copy(update={"pollutants": guess})
            for due in outlook.due(to_ms(one.window.end)):
                told += outlook.forecast(due, lambda _: None)
            outlook.take(one)
        kept = OUTLOOKS.encode(outlook.stations["s0"])
        assert OUTLOOKS.encode(read_outlook("s0", kept)) == kept
        [again] = fresh_with(kept).forecast(BEGINS + 3, lambda _: None)
        assert [again] == outlook.forecast(BEGINS + 3, lambda _: None)
        return told[-1]

    seen, measured_ = estimates("imputed").pollutants["pm25"], estimates("measured").pollutants["pm25"]
    assert (seen.imputed_share, measured_.imputed_share) == (1.0, 21 / 24)
    assert seen.quantiles[3][0] == pytest.approx(60.0, abs=1.0)
    assert seen.quantiles[3] == pytest.approx(measured_.quantiles[3], abs=1.0)
    assert seen.quantiles[6][0] > 118 > measured_.quantiles[6][0]
    assert seen.quantiles[0][0] < 32
    assert estimates("imputed").history_h == 0
    rows = np.array(seen.quantiles)
    assert (np.diff(rows, axis=0) >= 0).all()


def test_for_whom_only_the_region_speaks_is_silent() -> None:
    """After two weeks it has no forecast, and one that never spoke has none at all."""
    outlook = fresh(0)
    days = {"s0": (0, 1, 13, 15), "stranger": (1, 13, 15)}
    told: list[Forecast] = []
    for day in (0, 1, 13, 15):
        for name in days:
            if day in days[name]:
                one = window(name, 24 * day, np.array([60.0], np.float32))
                if day:
                    guess = {"pm25": imputed(60.0, 30.0, 120.0)}
                    nobody = one.inputs.model_copy(update={"readings": 0})
                    one = one.model_copy(update={"pollutants": guess, "inputs": nobody})
                for due in outlook.due(to_ms(one.window.end)):
                    told += outlook.forecast(due, lambda _: None)
                outlook.take(one)
    assert {one.station for one in told} == {"s0"}
    assert max(to_ms(one.issued_at) for one in told) == (BEGINS + 24 * 14 + 1) * HOUR_MS


def test_what_is_imputed_beside_what_is_measured_is_no_input_and_is_where_its_own_fan_begins() -> None:
    values = air(1, 4)
    told = []
    for guess in (0.0, 20.0, 300.0):
        outlook = fresh(3)
        for hour in range(4):
            one = window("s0", hour, values[0, hour, :2])
            one = one.model_copy(
                update={"pollutants": {**one.pollutants, "o3": imputed(guess, guess / 2, 2 * guess)}}
            )
            made = [outlook.forecast(due, lambda _: None) for due in outlook.due(to_ms(one.window.end))]
            outlook.take(one)
        told.append(made[-1][0])
        kept = OUTLOOKS.encode(outlook.stations["s0"])
        assert OUTLOOKS.encode(read_outlook("s0", kept)) == kept
    for one in told[1:]:
        assert one.indices == told[0].indices
        assert {n: p for n, p in one.pollutants.items() if n != "o3"} == {
            n: p for n, p in told[0].pollutants.items() if n != "o3"
        }
    fans = [np.array(one.pollutants["o3"].quantiles) for one in told]
    for fan, guess in zip(fans, (0.0, 20.0, 300.0), strict=True):
        assert fan[3, 0] == pytest.approx(guess, abs=0.2 * guess + 1e-6), "it begins at its estimate"
        assert (np.diff(fan, axis=0) >= 0).all()
        assert (fan >= 0).all()
    assert fans[2][0, 0] < 180
    assert fans[2][6, 0] > 560, "as wide as the estimate"


@cache
def last_week() -> Float32:
    return air(1, LOOKBACK)[0, :, :P]


@settings(max_examples=10, deadline=None)
@given(st.sets(st.integers(0, LOOKBACK - 1), min_size=1), st.integers(0, LOOKBACK - 1), st.integers(0, P))
def test_a_forecast_is_made_from_any_history(known: set[int], silent: int, lost: int) -> None:
    """Single hours, gaps, a silent week, without one of the pollutants: all is foretold, and in order."""
    outlook = fresh()
    outlook.due((BEGINS + 1) * HOUR_MS)
    outlook.take(window("s0", 0, last_week()[0]))
    means = np.full((LOOKBACK, P), np.nan, np.float32)
    means[sorted(known)] = last_week()[sorted(known)]
    means[LOOKBACK - silent :] = np.nan
    means[:, lost:] = np.nan
    outlook.stations["s0"].hours.means[:] = means
    outlook.stations["s0"].hours.touched = ()
    outlook.stations["s0"].hours.through = BEGINS + 3
    [one] = outlook.forecast(BEGINS + 3, lambda _: None)
    assert one.history_h == np.isfinite(means).any(axis=1).sum()
    assert set(one.pollutants) == set(POLLUTANTS)
    for name, said in one.pollutants.items():
        rows = np.array([*said.quantiles, said.mean])
        assert np.isfinite(rows).all()
        assert (np.diff(rows[:-1], axis=0) >= 0).all(), name
        assert (rows[-2] > rows[0]).all(), "nothing is certain"


def test_the_longer_it_was_silent_the_wider_it_is() -> None:
    wide = []
    for silent in (0, 12, 48, 160):
        outlook = fresh()
        outlook.due((BEGINS + 1) * HOUR_MS)
        outlook.take(window("s0", 0, np.full(P, 20.0, np.float32)))
        hours = outlook.stations["s0"].hours
        hours.means[: LOOKBACK - silent], hours.through, hours.touched = 20.0, BEGINS + 3, ()
        hours.means[LOOKBACK - silent :] = np.nan
        [one] = outlook.forecast(BEGINS + 3, lambda _: None)
        quantiles = one.pollutants["pm25"].quantiles
        wide.append(quantiles[6][0] - quantiles[0][0])
    assert wide == sorted(wide)
    assert wide[-1] > 2 * wide[0]


def test_what_a_station_does_not_measure_does_not_lead_its_index() -> None:
    """Ozone as another city has it would be the index of a clean place with nothing but a particle sensor."""
    values = air(1, 3)
    values[..., :P] = np.nan
    values[:, :, 0] = 6.0
    one = play(fresh(0), values)[-1]
    # Persistence: the median stays at 6 ug/m3, which is 33 by the table of 2024 (50 / 9 x 6); it was moved by
    # what it missed.
    assert one.indices[0].index[0] in (32, 33)
    assert one.pollutants["pm10"].quantiles[3][0] > 54, "it would have led: 50 and more"


def test_where_nothing_is_heard_forecasts_are_wider_not_absent() -> None:
    values = air(2, 30 + 26)
    values[0, 30:-1] = np.nan
    outlook = fresh(0)
    told = [one for one in play(outlook, values) if one.station == "s0"]
    assert len(told) == 30 + 25
    wide = [
        np.subtract(one.pollutants["pm25"].quantiles[6], one.pollutants["pm25"].quantiles[0])[0]
        for one in (told[28], told[-1])
    ]
    assert wide[1] > 1.5 * wide[0]
    assert told[-1].pollutants["pm25"].imputed_share == 1.0


def test_what_comes_late_is_forecast_from_once_more() -> None:
    values = air(2, 30)
    outlook = fresh(3)
    first = {one.station: one for one in play(outlook, values)[-2:]}
    assert outlook.again(lambda _: None) == []
    late = values[0, 28].copy()
    late[0] = 300.0
    outlook.take(window("s0", 28, late, (15, 60), revision=2))
    [again] = outlook.again(lambda _: None)
    assert (again.station, again.revision, again.issued_at) == ("s0", 2, first["s0"].issued_at)
    assert again.pollutants["pm25"].mean[0] > first["s0"].pollutants["pm25"].mean[0]
    # An older revision, and a window of a closed hour, change nothing.
    outlook.take(window("s0", 28, values[0, 28], (15, 60), revision=1))
    outlook.take(window("s0", 28 - OPEN_HOURS, late, revision=9))
    assert outlook.again(lambda _: None) == []


@dataclass(frozen=True)
class Wild:
    """A model without order or measure."""

    said: Float32
    name: str = "wild"

    def predict(self, inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]) -> Float32:
        return np.broadcast_to(
            self.said, (len(inputs.panel.stations), len(origins), len(horizons), P, 8)
        ).copy()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(allow_nan=True, width=32), min_size=8, max_size=8),
    st.lists(st.floats(-3, 3), min_size=7, max_size=7),
)
def test_quantiles_never_cross_whatever_a_model_says_and_calibration_learned(
    said: list[float], moved_by: list[float]
) -> None:
    outlook = Outlook([Wild(np.array(said, np.float32))], "wild", typical(), ("us-epa-2024",), {})
    play(outlook, air(1, 2))
    outlook.stations["s0"].record.offsets[:] = np.array(moved_by, np.float32)
    [one] = outlook.forecast(BEGINS + 1, lambda _: None)
    for pollutant in one.pollutants.values():
        rows = np.array(pollutant.quantiles)
        assert np.isfinite(rows).all()
        assert (np.diff(rows, axis=0) >= 0).all()
        assert (rows >= 0).all()
    [index] = one.indices
    assert all((low or 0) <= (high or 0) for low, high in zip(index.lo, index.hi, strict=True))
    np.testing.assert_allclose(np.sum(index.probabilities, axis=0), 1.0, atol=1e-3)


def issue(at: int, since: int, hours: int, temperature: float = 5.0, station: str = "s0") -> WeatherIssue:
    """Known `at` (hours after the beginning), of `hours` from `since` on."""
    return WeatherIssue(
        station=station, issued_at=from_ms((BEGINS + at) * HOUR_MS),
        hours=tuple(
            WeatherHour(
                valid_at=from_ms((BEGINS + since + hour) * HOUR_MS), temperature=temperature, wind_speed=9.0,
                wind_direction=0.0,
            )
            for hour in range(hours)
        ),
    )  # fmt: skip


def sensed(one: Estimate, sky: Mapping[str, float], humidity: float | None = None) -> Estimate:
    """The window with weather by its own sensors."""
    inputs = one.inputs.model_copy(update={"weather": sky, "humidity": humidity})
    return one.model_copy(update={"inputs": inputs})


def with_own_weather(
    outlook: Outlook, values: Float32, skies: Sequence[Mapping[str, float]]
) -> Forecast | None:
    """The last forecast of a station whose sensors tell of its weather hour by hour."""
    told: list[Forecast] = []
    for hour, sky in enumerate(skies):
        one = sensed(window("s0", hour, values[0, hour]), sky, sky.get("relativehumidity"))
        for due in outlook.due(to_ms(one.window.end)):
            told += outlook.forecast(due, lambda _: None)
        outlook.take(one)
    return told[-1] if told else None


def some_skies(hours: int, seed: int = 0) -> list[dict[str, float]]:
    random = np.random.default_rng(seed)
    return [
        {
            "temperature": float(random.normal(8, 3)), "relativehumidity": float(random.uniform(30, 90)),
            "pressure": float(random.normal(1010, 4)), "windspeed": float(random.uniform(0.2, 6)),
            "winddirection": float(random.uniform(0, 360)),
        }
        for _ in range(hours)
    ]  # fmt: skip


def test_a_stations_own_sensors_tell_the_weather_as_a_table_would() -> None:
    hours = 30
    values, skies = air(1, hours + 1), some_skies(hours + 1)
    one = with_own_weather(fresh(3), values, skies)
    assert one is not None
    known = values[:, :hours].copy()
    for hour, sky in enumerate(skies[:hours]):
        wind = wind_of(sky["windspeed"], sky["winddirection"])
        known[0, hour, P:] = (
            sky["temperature"], dewpoint(sky["temperature"], sky["relativehumidity"]), sky["pressure"],
            wind["wind_east"], wind["wind_north"], wind["wind_speed"], np.nan,
        )  # fmt: skip
    panel = Panel(("s0",), BEGINS, (0.0,), known)
    said, blind = (
        of_folder([models()[3]], replace(panel, values=some))[0, -1] for some in (known, values[:, :hours])
    )
    assert np.abs(said - blind).max() > 1.0, "the weather tells nothing, so nothing is tested"
    for column, name in enumerate(POLLUTANTS):
        mean = [one.pollutants[name].mean[horizon - 1] for horizon in HORIZONS]
        np.testing.assert_allclose(mean, said[:, column, -1], rtol=1e-5, atol=1e-5)


def test_weather_that_was_issued_counts_before_the_stations_own() -> None:
    values, skies = air(1, 12), some_skies(12)
    outlook = fresh(3)
    with_own_weather(outlook, values[:, :10], skies[:10])
    outlook.take_weather(issue(9, 5, 3, temperature=-7.0), arrived=LATER)
    outlook.forecast(BEGINS + 9, lambda _: None)
    sky = outlook.stations["s0"].sky[-10:]
    assert sky[5:8, 0].tolist() == [-7.0] * 3
    own = [skies[hour]["temperature"] for hour in (3, 4, 8, 9)]
    np.testing.assert_allclose(sky[[3, 4, 8, 9], 0], own, rtol=1e-6)
    np.testing.assert_allclose(sky[5:8, 2], [one["pressure"] for one in skies[5:8]], rtol=1e-6)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 5), st.floats(-30, 45), st.floats(0, 40))
def test_no_weather_of_later_hours_is_used(seed: int, temperature: float, speed: float) -> None:
    """Whatever the station's own sensors say after an hour, its forecast is the same."""
    values, skies = air(1, 5, seed), some_skies(5, seed)
    told = []
    for later in (skies[4], {"temperature": temperature, "windspeed": speed, "winddirection": 90.0}):
        outlook = fresh(3)
        with_own_weather(outlook, values[:, :4], skies[:4])
        # The next hour's first minutes may have come before the hour is forecast from again.
        [first] = outlook.forecast(BEGINS + 3, lambda _: None)
        outlook.take(sensed(window("s0", 4, values[0, 4], (0, 15)), later))
        told.append([first, *outlook.again(lambda _: None)])
    assert told[0] == told[1]


def test_what_no_sensor_could_have_sent_is_no_weather() -> None:
    outlook = fresh(0)
    absurd = {"temperature": -243.04, "relativehumidity": 1e5, "windspeed": 1e6, "winddirection": 721.0}
    with_own_weather(outlook, air(1, 3), [absurd] * 3)
    outlook.forecast(BEGINS + 2, lambda _: None)
    assert np.isnan(outlook.stations["s0"].sky).all()


def test_what_sensors_say_of_the_weather_too_late_is_forecast_from_once_more() -> None:
    values, skies = air(1, 12), some_skies(12)
    outlook = fresh(3)
    with_own_weather(outlook, values[:, :10], skies[:10])
    outlook.forecast(BEGINS + 9, lambda _: None)
    assert outlook.again(lambda _: None) == []
    outlook.take(sensed(window("s0", 9, values[0, 9], revision=2), {**skies[9], "windspeed": 19.0}))
    [again] = outlook.again(lambda _: None)
    assert again.revision == 2


def test_reasons_add_up_and_name_what_was_known() -> None:
    values, skies = air(1, 7), [{**one, "windspeed": 2.0} for one in some_skies(7)]
    outlook = fresh()
    with_own_weather(outlook, values, skies)
    outlook.take_weather(issue(7, 7, 90), arrived=LATER)
    [one] = outlook.forecast(BEGINS + 6, lambda _: None)
    assert one.history_h == 7
    assert set(one.reasons) == set(POLLUTANTS)
    for name, reason in one.reasons.items():
        total = reason.last + reason.usual + sum(reason.shares.values()) + reason.unshared
        assert total == pytest.approx(reason.mean, rel=1e-4, abs=1e-4)
        assert reason.mean == pytest.approx(one.pollutants[name].mean[REASONS_HOURS - 1], rel=1e-4)
    assert any("the wind to come" in reason.words for reason in one.reasons.values())
    for reason in one.reasons.values():
        assert ("the wind to come" in reason.words) == ("(rises to 9.0 m/s)" in reason.words)


def test_what_was_estimated_is_no_reason_as_if_measured() -> None:
    """Of a station that measures nothing it was an estimate that moves its forecast."""
    own, said = "what it was here in the last days", []
    for hidden in (True, False):
        outlook = fresh()
        for hour, level in enumerate((300.0, 300.0, 300.0, 300.0, 300.0, 20.0)):
            one = window("s0", hour, np.array([level], np.float32))
            if hidden:
                one = one.model_copy(update={"pollutants": {"pm25": imputed(level, 10.0, 900.0)}})
            for due in outlook.due(to_ms(one.window.end)):
                outlook.forecast(due, lambda _: None)
            outlook.take(one)
        [made] = outlook.forecast(BEGINS + 5, lambda _: None)
        words = made.reasons["pm25"].words
        said.append((own in words, "(estimated, not measured)" in words))
    assert said == [(True, True), (True, False)]


def test_where_another_model_speaks_its_name_is_the_reason() -> None:
    values = air(1, 6)
    outlook = Outlook([models()[0], models()[-1]], "small", typical(), ("us-epa-2024",), {})
    play(outlook, values)
    contest = outlook.stations["s0"].contest
    contest.hours[:], contest.errors[..., 0], contest.errors[..., 1:] = 1000.0, 1.0, 2000.0
    [one] = outlook.forecast(BEGINS + 5, lambda _: None)
    assert {reason.words for reason in one.reasons.values()} == {
        "by persistence, which has erred least here lately"
    }


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 5), st.lists(st.tuples(st.integers(1, 9), st.floats(-20, 40)), min_size=1, max_size=4))
def test_only_what_had_been_issued_is_used(seed: int, later: list[tuple[int, float]]) -> None:
    """Whatever was issued after an hour, its forecast is the same."""
    values = air(1, 12, seed)
    outlook = fresh(3)
    play(outlook, values[:, :10])
    outlook.take_weather(issue(9, 0, 100), arrived=LATER)
    kept = OUTLOOKS.encode(outlook.stations["s0"])
    [plain] = outlook.forecast(BEGINS + 9, lambda _: None)
    other = fresh(3)
    other.stations["s0"] = read_outlook("s0", kept)
    other.made = BEGINS + 8
    for ahead, temperature in later:
        other.take_weather(issue(10 + ahead, 0, 100, temperature), arrived=LATER)
    [same] = other.forecast(BEGINS + 9, lambda _: None)
    assert plain.model_dump_json() == same.model_dump_json()
    assert plain.weather_issued_at == from_ms((BEGINS + 9) * HOUR_MS)


def test_weather_to_come_is_used_where_there_is_enough_of_it() -> None:
    values = air(1, 12)
    told: dict[int, Forecast] = {}
    for hours in (0, 40, 90):
        outlook = fresh(3)
        play(outlook, values[:, :10])
        if hours:
            outlook.take_weather(issue(9, 0, hours), arrived=LATER)
        [told[hours]] = outlook.forecast(BEGINS + 9, lambda _: None)
    assert told[0].weather_issued_at is None is told[40].weather_issued_at
    assert told[90].weather_issued_at is not None
    assert told[90].pollutants != told[40].pollutants


def test_of_two_issues_the_newer_one_counts_however_they_come() -> None:
    values = air(1, 12)
    for order in ((0, 1), (1, 0)):
        outlook = fresh(3)
        play(outlook, values[:, :10])
        both = issue(8, 0, 100, 1.0), issue(9, 0, 100, 2.0)
        for place in order:
            outlook.take_weather(both[place], arrived=LATER)
        outlook.forecast(BEGINS + 9, lambda _: None)
        assert (outlook.stations["s0"].weather.coming[:80, 0] == 2.0).all()


def test_weather_of_a_stranger_and_too_much_of_it_are_refused() -> None:
    outlook = fresh(0)
    with pytest.raises(Refused, match="no estimate of station s0"):
        outlook.take_weather(issue(0, 0, 1), arrived=LATER)
    play(outlook, air(1, 2))
    for _ in range(6):
        outlook.take_weather(issue(500, 500, 288), arrived=LATER)
    with pytest.raises(Refused, match="lie ahead") as refused:
        outlook.take_weather(issue(500, 500, 288), arrived=LATER)
    assert refused.value.code == "too_many_issues"


def test_while_a_station_is_silent_the_newest_weather_waits_for_it() -> None:
    outlook = fresh(0)
    play(outlook, air(1, 2))
    for hour in range(2, 40):
        outlook.take_weather(
            issue(hour, hour, 144, temperature=hour / 2), arrived=(BEGINS + hour) * HOUR_MS + 4000
        )
    outlook.forecast(BEGINS + 38, lambda _: None)
    weather = outlook.stations["s0"].weather
    assert weather.issued_at() == (BEGINS + 39) * HOUR_MS
    assert (weather.coming[:, 0] == 19.5).all()
    assert len(weather.waiting) == 0


def test_neighbours_are_those_near_by() -> None:
    """A station a thousand kilometres away has no say."""
    places = {"s0": (40.0, 116.0), "s1": (40.1, 116.2), "s2": (30.0, 110.0)}

    def records(name: str) -> Station:
        latitude, longitude = places[name]
        return Station(station=name, latitude=latitude, longitude=longitude)

    values = air(3, 12)
    altered = values.copy()
    altered[2, :, :P] *= 5
    plain, other = (play(fresh(3), one, records=records) for one in (values, altered))
    for one, changed in zip(plain, other, strict=True):
        assert (one.pollutants == changed.pollutants) == (one.station != "s2")
    altered = values.copy()
    altered[1, :, :P] *= 5
    nearer = play(fresh(3), altered, records=records)
    assert plain[-3].pollutants != nearer[-3].pollutants
    assert plain[-1].pollutants == nearer[-1].pollutants


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 50)), max_size=12))
def test_an_hour_is_the_mean_of_the_newest_revisions(drawn: list[tuple[int, int, int]]) -> None:
    """In whatever order they come; against a dictionary."""
    hours = StationHours(BEGINS - 1)
    newest: dict[int, tuple[int, int]] = {}
    for quarter, revision, value in drawn:
        made = window("s", 0, np.array([value], np.float32), (15 * quarter, 15 * quarter + 15), revision)
        hours.take(made)
        if revision >= newest.get(quarter, (0, 0))[0]:
            newest[quarter] = revision, value
    hours.advance(BEGINS)
    found = hours.means[-1, 0]
    if newest:
        assert found == pytest.approx(np.mean([value for _, value in newest.values()]))
    else:
        assert np.isnan(found)


def test_what_was_imputed_does_not_count_and_a_period_counts_where_it_began() -> None:
    hours = StationHours(BEGINS - 1)
    hours.take(
        estimate("s", T0 + 60, 1, {"pm25": imputed(9.0, 1.0, 20.0)},
                 window=Window(start=from_ms(BEGINS * HOUR_MS), end=from_ms((BEGINS + 1) * HOUR_MS)))
    )  # fmt: skip
    hours.advance(BEGINS)
    assert np.isnan(hours.means[-1]).all()
    # Stamped with its end, five minutes after the hour: it is that hour's mean.
    late = Window(
        start=from_ms((BEGINS + 1) * HOUR_MS + 240_000), end=from_ms((BEGINS + 1) * HOUR_MS + 300_000)
    )
    hours.take(
        estimate(
            "s",
            T0 + 60,
            1,
            {"pm25": measured(30.0, since=from_ms(BEGINS * HOUR_MS), covered_s=60)},
            window=late,
        )
    )
    assert hours.settle()
    assert hours.means[-1, 0] == 30.0


def test_what_a_late_reading_leaves_in_the_next_hour_is_no_hour() -> None:
    """The value of an hourly sensor stands for six minutes more, in case the next one is late."""
    for minutes, known in ((6, False), (7, True)):
        hours = StationHours(BEGINS - 1)
        hours.take(window("s", 0, np.array([30.0], np.float32), (0, minutes)))
        hours.advance(BEGINS)
        assert np.isfinite(hours.means[-1, 0]) == known


def test_six_digits_are_kept() -> None:
    made = six_digits(np.array([123.456789, 0.0001234567, 98765.4321, 0.0], np.float32)).tolist()
    assert made == [123.457, 0.000123, 98765.4, 0.0]


def test_a_station_that_another_bundle_foretells_begins_to_learn_of_that_one() -> None:
    values = air(1, 60)
    outlook = fresh()
    play(outlook, values)
    state = outlook.stations["s0"]
    state.local.tallies[..., 0] = 1000.0
    other = Outlook([models()[-1]], "other", typical(), ("us-epa-2024",), outlook.stations)
    play(other, air(1, 64), first=60)
    assert state.local.model == "other"
    assert state.local.tallies[..., 0].max() < 80.0
