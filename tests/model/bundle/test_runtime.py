"""The shipped bundle through the run-time classes: shapes, refusals, bytes that never depend on the batch."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.bundle.bundle import PATTERNS, UNSEEN_AQI, UNSEEN_AQI_WITHOUT_PM25, Bundle
from model.bundle.runtime import Encoder, Head, HeadOutput, pattern_index, pool, trusted_readings
from schemas.errors import ArrayError
from schemas.parameters import POLLUTANTS
from schemas.reading import LIMITS


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def head(bundle: Bundle) -> Head:
    return Head(bundle)


def pictures(count: int, height: int = 224, width: int = 224, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Smooth random pictures: noise alone would drive every activation to the same place."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, -(-height // 16), -(-width // 16), 3), dtype=np.uint8)
    return list(np.repeat(np.repeat(small, 16, axis=1), 16, axis=2)[:, :height, :width])


class Inputs:
    """Random head inputs with every kind of gap."""

    def __init__(self, rows: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.embedding = rng.normal(size=(rows, 128)).astype(np.float32)
        self.image = rng.random(rows) < 0.6
        self.sensors = rng.gamma(2.0, 30.0, (rows, 6)).astype(np.float32)
        self.sensors[rng.random((rows, 6)) < 0.4] = np.nan
        self.sensors[~self.image & np.isnan(self.sensors).all(axis=1), 0] = 12.0
        self.haze = rng.random((rows, 20)).astype(np.float32)
        self.haze[rng.random(rows) < 0.3] = np.nan
        self.hour = (rng.random(rows) * 24).astype(np.float32)
        self.hour[rng.random(rows) < 0.3] = np.nan

    def predict(self, head: Head, rows: slice = slice(None)) -> HeadOutput:
        return head.predict(
            self.embedding[rows], self.image[rows], self.sensors[rows], self.haze[rows], self.hour[rows]
        )


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16, 33, 100, 399])
def test_head_row_is_the_same_bytes_in_any_batch(bundle: Bundle, head: Head, batch: int) -> None:
    inputs = Inputs(400, seed=1)
    whole = inputs.predict(head)
    other = Head(bundle)
    for start in range(0, 400, batch):
        rows = slice(start, start + batch)
        for name, array in inputs.predict(other, rows)._asdict().items():
            assert array.tobytes() == getattr(whole, name)[rows].tobytes(), name


@pytest.mark.parametrize("threads", [1, 2])
def test_encoder_row_is_the_same_bytes_in_any_batch(bundle: Bundle, threads: int) -> None:
    images = pictures(16)
    alone = [Encoder(bundle).encode([image])[0] for image in images]
    encoder = Encoder(bundle, threads)
    for batch in (2, 7, 16):
        for start in range(0, 16, batch):
            for offset, result in enumerate(encoder.encode(images[start : start + batch])):
                assert result.embedding.tobytes() == alone[start + offset].embedding.tobytes()
                assert result.projection.tobytes() == alone[start + offset].projection.tobytes()


def test_encoder_takes_mixed_sizes_in_one_call(bundle: Bundle) -> None:
    encoder = Encoder(bundle)
    whole, bands = pictures(3), pictures(2, 96, 448, seed=5)
    mixed = encoder.encode([whole[0], bands[0], whole[1], bands[1], whole[2]])
    apart = encoder.encode(whole) + encoder.encode(bands)
    for result, expected in zip(mixed, [apart[i] for i in (0, 3, 1, 4, 2)], strict=True):
        assert result.embedding.shape == (128,)
        assert result.projection.shape == (64,)
        assert result.embedding.tobytes() == expected.embedding.tobytes()
        assert result.projection.tobytes() == expected.projection.tobytes()
    assert encoder.encode([]) == []


def test_feature_map_belongs_to_the_embedding(bundle: Bundle) -> None:
    encoder = Encoder(bundle)
    image = pictures(1)[0]
    features, embedding = encoder.feature_map(image)
    assert features.shape == (bundle.manifest.backbone.channels, 7, 7)
    assert embedding.tobytes() == encoder.encode([image])[0].embedding.tobytes()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((224, 224, 3), np.float32),
        np.zeros((224, 224), np.uint8),
        np.zeros((224, 224, 4), np.uint8),
        np.zeros((31, 224, 3), np.uint8),
    ],
)
def test_encoder_refuses_what_is_no_picture(bundle: Bundle, image: NDArray[np.uint8]) -> None:
    with pytest.raises(ArrayError, match="image 0"):
        Encoder(bundle).encode([image])


def check(out: HeadOutput, head: Head) -> None:
    """What may be published of any row: nothing at all, or what could be true."""
    trusted = np.array([name in head.bundle.trusted for name in POLLUTANTS])
    for row in range(len(out.aqi)):
        told = [out.aqi, out.aqi_lo, out.aqi_hi]
        if not out.speaks(row):
            assert all(np.isnan(array[row]).all() for array in (*told, *out[3:6]))
            assert out.pattern[row] == -1
            continue
        value, low, high = (array[row].astype(np.float64) for array in out[3:6])
        assert (np.isnan(value) == ~trusted).all()
        assert 0 <= out.aqi_lo[row] <= out.aqi[row] <= out.aqi_hi[row] <= 500
        limit = np.array([LIMITS[name][1] for name in POLLUTANTS])
        for array in (value, low, high):
            assert ((array >= 0) & (array <= limit) | ~trusted).all()
        assert ((low <= value) & (value <= high) | ~trusted).all()
        assert value[0] <= value[1]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=st.integers(0, 40), seed=st.integers(0, 2**32 - 1))
def test_every_row_with_any_input_gets_a_finite_ordered_estimate(head: Head, rows: int, seed: int) -> None:
    out = Inputs(rows, seed).predict(head)
    assert out.aqi.shape == (rows,)
    assert out.sensors.shape == (rows, 6)
    check(out, head)


#: Of any size that a number of its kind may have, the smallest and the largest as often as the usual.
SIZES = st.sampled_from([0.0, 1e-3, 0.1, 1.0, 10.0, 1e3, 1e6, 1e20])
READINGS = [
    st.none() | st.floats(0, LIMITS[name][1], width=32) | st.floats(0, LIMITS[name][1] / 20, width=32)
    for name in POLLUTANTS
]


@pytest.mark.filterwarnings("error")
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.tuples(*READINGS), SIZES, SIZES, st.integers(0, 2**32 - 1)), max_size=4))
def test_no_readings_within_the_limits_and_no_picture_make_the_head_say_what_cannot_be(
    head: Head, rows: list[tuple[tuple[float | None, ...], float, float, int]]
) -> None:
    for readings, size, haze, seed in rows:
        rng = np.random.default_rng(seed)
        sensors = np.array([[np.nan if value is None else value for value in readings]], np.float32)
        there = np.isnan(sensors).all(axis=1) | (rng.random(1) < 0.5)
        out = head.predict(
            (rng.normal(size=(1, 128)) * size).astype(np.float32),
            there,
            sensors,
            (rng.normal(size=(1, 20)) * haze).astype(np.float32),
            unseen=np.array([True]),
        )
        check(out, head)


def alone(name: str, value: float) -> NDArray[np.float32]:
    sensors = np.full((1, 6), np.nan, np.float32)
    sensors[0, POLLUTANTS.index(name)] = value
    return sensors


def says(head: Head, sensors: NDArray[np.float32], unseen: bool = False) -> HeadOutput:
    blind = np.zeros((1, 128), np.float32), np.zeros(1, bool)
    return head.predict(*blind, sensors, unseen=np.array([unseen]))


@pytest.mark.parametrize(
    ("name", "value", "speaks"),
    [
        ("pm10", 6553.5, False),  # 0xFFFF / 10, what an SDS011's driver gives for a bad frame
        ("pm10", 2900.0, False),  # a dust storm
        ("pm10", 1999.9, False),
        ("pm10", 800.0, False),
        ("pm10", 480.0, True),  # the highest it was trained on
        ("pm10", 7.0, True),
        ("pm10", 1.0, False),
        ("pm25", 4999.0, False),
        ("pm25", 600.0, True),
        ("pm25", 0.0, False),
    ],
)
def test_an_input_far_outside_training_silences_the_head(
    head: Head, name: str, value: float, speaks: bool
) -> None:
    assert says(head, alone(name, value)).speaks(0) == speaks


@pytest.mark.parametrize("name", ["no2", "so2", "co", "o3"])
def test_a_withheld_pollutant_is_neither_read_nor_told(head: Head, name: str) -> None:
    assert set(head.bundle.withheld) == {"no2", "so2", "co", "o3"}
    assert not says(head, alone(name, 30.0)).speaks(0)
    both = alone("pm10", 60.0)
    expected = says(head, both)
    both[0, POLLUTANTS.index(name)] = 30.0
    got = says(head, both)
    assert got.aqi == expected.aqi
    assert got.sensors.tobytes() == expected.sensors.tobytes()
    assert got.concentration(0, POLLUTANTS.index(name)) is None
    assert got.concentration(0, 0) is not None


def test_an_interval_at_a_site_never_seen_is_wider_by_what_the_bundle_says(head: Head) -> None:
    seen, unseen = (says(head, alone("pm10", 60.0), one) for one in (False, True))
    assert seen.sensors.tobytes() == unseen.sensors.tobytes()

    def half(out: HeadOutput) -> float:
        return float(np.log1p(out.sensors_hi[0, 0]) - np.log1p(out.sensors[0, 0]))

    assert half(unseen) == pytest.approx(head.bundle.unseen("pm25") * half(seen), rel=1e-4)


@pytest.mark.parametrize(("name", "factor"), [("pm25", UNSEEN_AQI), ("pm10", UNSEEN_AQI_WITHOUT_PM25)])
def test_the_interval_of_the_aqi_is_wider_there_too(head: Head, name: str, factor: float) -> None:
    seen, unseen = (says(head, alone(name, 60.0), one) for one in (False, True))
    assert seen.aqi.tobytes() == unseen.aqi.tobytes()
    assert unseen.aqi_hi[0] - unseen.aqi[0] == pytest.approx(
        factor * (seen.aqi_hi[0] - seen.aqi[0]), rel=1e-4
    )


def test_values_behind_a_mask_change_nothing(head: Head) -> None:
    inputs = Inputs(20, seed=3)
    before = inputs.predict(head)
    inputs.embedding[~inputs.image] = 1e6
    inputs.haze[~inputs.image] = 7.0
    after = inputs.predict(head)
    assert before.aqi.tobytes() == after.aqi.tobytes()
    assert before.sensors.tobytes() == after.sensors.tobytes()


def test_a_row_with_nothing_is_refused_by_its_number(head: Head) -> None:
    inputs = Inputs(5, seed=4)
    inputs.image[3] = False
    inputs.sensors[3] = np.nan
    with pytest.raises(ArrayError, match="row 3"):
        inputs.predict(head)


def test_wrong_shapes_and_infinities_are_refused(head: Head) -> None:
    inputs = Inputs(4, seed=5)
    with pytest.raises(ArrayError, match="sensors has shape"):
        head.predict(inputs.embedding, inputs.image, inputs.sensors[:, :5])
    inputs.sensors[0, 0] = np.inf
    with pytest.raises(ArrayError, match="infinite"):
        inputs.predict(head)
    inputs.sensors[0, 0] = 1.0
    inputs.image[0], inputs.embedding[0, 0] = True, np.nan
    with pytest.raises(ArrayError, match="NaN"):
        inputs.predict(head)


@given(st.lists(st.tuples(st.booleans(), st.tuples(*[st.booleans()] * 6)), min_size=1, max_size=8))
def test_pattern_index_against_its_definition(rows: list[tuple[bool, tuple[bool, ...]]]) -> None:
    rows = [row for row in rows if row[0] or any(row[1])] or [(True, (False,) * 6)]
    got = pattern_index(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))
    for index, (image, present) in zip(got, rows, strict=True):
        shown = [name for name, there in zip((*POLLUTANTS, "image"), (*present, image), strict=True) if there]
        assert PATTERNS[index] == "+".join(shown)


def test_pool_is_the_mean_in_double_precision() -> None:
    rows = [np.full(3, 16777216.0, np.float32), np.ones(3, np.float32), np.full(3, -16777216.0, np.float32)]
    assert np.array_equal(pool(rows), np.full(3, 1 / 3, np.float32))
    assert pool(rows[:1]).tobytes() == rows[0].tobytes()
    with pytest.raises(ArrayError, match="no frame"):
        pool([])


def test_an_interval_is_as_wide_as_the_table_says_of_what_was_shown(head: Head) -> None:
    """Half a width is the network's own scale times the factor of the pattern, row by row."""
    inputs = Inputs(200, seed=3)
    told = inputs.predict(head)
    tables = head.bundle.manifest.intervals
    heard = trusted_readings(head.bundle, inputs.sensors)
    aqi, aqi_scale, log, scale = head.graph_outputs(
        inputs.embedding, inputs.image, heard, inputs.haze, inputs.hour
    )
    trusted = [place for place, name in enumerate(POLLUTANTS) if name in head.bundle.trusted]
    factors = set()
    for row in range(200):
        if not told.speaks(row):
            continue
        pattern = PATTERNS[told.pattern[row]]
        factor = tables.aqi[pattern]
        factors.add(factor)
        high = min(float(np.clip(aqi[row, 0], 0, 500)) + factor * float(aqi_scale[row, 0]), 500.0)
        assert told.aqi_hi[row] == pytest.approx(high, rel=1e-5)
        for place in trusted:
            own = tables.sensors[pattern][POLLUTANTS[place]]
            middle = np.log1p(told.sensors[row, place])
            wide = np.log1p(told.sensors_hi[row, place]) - middle
            if told.sensors_hi[row, place] < 0.9 * LIMITS[POLLUTANTS[place]][1] and log[row, place] > 0.5:
                # Where PM2.5 would lie above PM10 both are moved, with their scales.
                assert wide == pytest.approx(own * scale[row, place], rel=1e-3)
    assert len(factors) > 4, "patterns differ, and so do their factors"
