"""The far band is found in the stream: as offline, the same after a crash, and vision acts on it."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaConsumer, TopicPartition

from camera.far_band import MIN_PAIRS, ROWS, BandFinder, observe
from camera.sight import CAMERA_SIZE
from fusion.assessor import Assessor
from fusion.stored import SensorsState, StationState, read
from model.bundle.bundle import Bundle
from model.bundle.runtime import Head
from model.evaluation.histories import read_milan
from model.evaluation.online import OnlineProtocol, evaluate_online
from schemas.base import from_ms
from schemas.features import Features, Quality
from schemas.reading import Quantity
from schemas.station import Camera, CameraBands, FarBand, FoundBand, Station
from settings.sections import Settings
from streams import topics
from streams.admin import client_arguments, create_topics
from streams.join import Expire, Item, WindowView
from tests.harness import REPLAY, Sent, fleet, frame, punctuations, read_all, reading, send, until

HOUR = 3_600_000
MINUTE = 60_000
START = 1_750_248_000_000
MILAN = Path(__file__).parents[2] / ".." / "shared" / "data" / "milan-webcam"


def hours(count: int, seed: int = 3) -> list[tuple[np.ndarray, float]]:
    """Row profiles (36,) whose rows around the 13th fall with PM2.5, and PM2.5."""
    random_ = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        pm25 = float(np.exp(random_.normal(3, 0.7)))
        rows = random_.normal(2, 0.15, ROWS)
        rows -= 0.3 * np.log1p(pm25) * np.exp(-(((np.arange(ROWS) - 13) / 2.0) ** 2))
        found.append((rows.astype("<f4"), round(pm25, 3)))
    return found


def view(end: int, rows: np.ndarray, pm25: float) -> WindowView:
    """A window with a frame and a reading."""
    at = end - 30_000
    size = CAMERA_SIZE
    features = Features(
        station="s", camera="main", captured_at=from_ms(at), frame_id=str(at), sha256="0" * 64, bundle="b",
        encoder=Bundle.load().encoder,
        embeddings={
            "frame": np.zeros(128, "<f4").tobytes(), "camera": np.ones(size, "<f4").tobytes(),
            "rows": rows.tobytes(),
        },
        haze=np.zeros(20, "<f4").tobytes(), quality=Quality(usable=True), camera_layout="whole",
    )  # fmt: skip
    inputs = {
        "features": (Item("s", at, at, ("main", at), "", features, 0),),
        "readings": (
            Item("s", at, at, ("a", "pm25", at), "", Quantity("pm25", pm25, "ug/m3", "a", "value"), 0),
        ),
    }
    return WindowView("s", end - MINUTE, end, 2, inputs)


def assessor(snapshots: dict[str, tuple[int, StationState | SensorsState]]) -> Assessor:
    return Assessor(Head(Bundle.load()), size_ms=MINUTE, lateness_ms=2 * MINUTE, snapshots=snapshots)


def test_the_band_is_found_hour_by_hour_and_the_same_after_crashes() -> None:
    """A window an hour: the finder's own answer, at the first window after the hour that made it sure."""
    history = hours(MIN_PAIRS + 6)
    finder: BandFinder | None = None
    for rows, pm25 in history:
        finder = observe(finder, rows, pm25)
    assert finder is not None
    band = finder.band()
    assert band is not None
    steps = [
        Expire(view(START + number * HOUR + 5 * MINUTE, rows, pm25))
        for number, (rows, pm25) in enumerate(history)
    ]

    def run(crashes: set[int]) -> list[tuple[int, str]]:
        worker, told = assessor({}), []
        for number, step in enumerate(steps):
            done = step.view.end
            bands = worker.run([step], done, lambda _: None).bands
            if number in crashes:
                # What the checkpoint does not hold, the log has: the window just done is read again.
                kept = {
                    name: (at, read(name, worker.dump(name, at)))
                    for name, at in worker.horizons(done).items()
                }
                worker = assessor(kept)
                bands += worker.run([step], done, lambda _: None).bands
            told += [(number, found.model_dump_json()) for found in bands]
        return told

    calm = run(set())
    # The hour of the last pair is taken in when the next one begins.
    assert [number for number, _ in calm] == [MIN_PAIRS]
    found = CameraBands.model_validate_json(calm[0][1])
    assert found == CameraBands(
        station="s",
        bands=(
            FoundBand(camera="main", far_band=FarBand(top=band.top, bottom=band.bottom), pairs=MIN_PAIRS),
        ),
    )
    for seed in range(3):
        dice = random.Random(seed)
        crashes = {dice.randrange(len(steps)) for _ in range(6)} | {MIN_PAIRS}
        assert set(run(crashes)) == set(calm)  # told again, with the same words


@pytest.mark.broker
@pytest.mark.realdata
@pytest.mark.slow
def test_milan_finds_its_far_band_in_the_stream(
    kafka_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """Real frames through real workers: the band of the offline evaluation, and vision cuts it out."""
    if not MILAN.is_dir():
        pytest.skip("no ../shared/data")
    data = read_milan(MILAN)
    offline = evaluate_online(data, Bundle.load(), OnlineProtocol(find_band=True, outages=())).far_band
    assert offline is not None
    settings = kafka_settings(partitions=1, window=REPLAY)
    latitude, longitude = data.position or (None, None)
    stations = [
        Station(station="milan", latitude=latitude, longitude=longitude, cameras=(Camera(camera="main"),)),
        Station(
            station="set", latitude=latitude, longitude=longitude,
            cameras=(Camera(camera="main", far_band=FarBand(top=0.1, bottom=0.4)),),
        ),
    ]  # fmt: skip
    first = min(at for at, _ in data.frames)
    timed: list[tuple[int, Sent]] = [(at, frame("milan", at, path.read_bytes())) for at, path in data.frames]
    timed += [
        (end - HOUR, reading("milan", end - HOUR, {"pm25": value}))
        for end, value in data.readings["pm25"].items()
        if first <= end <= max(at for at, _ in data.frames) + HOUR
    ]
    timed.sort(key=lambda pair: pair[0])
    half = sorted(at for at, _ in data.frames)[len(data.frames) * 4 // 5]
    until_half = [record for at, record in timed if at <= half]
    later = [at for at, _ in data.frames if at > half]
    create_topics(settings)
    send(
        settings,
        [Sent(topics.STATIONS, one.station.encode(), one.model_dump_json().encode()) for one in stations],
    )
    with fleet(settings, tmp_path, ("vision", "fusion")) as workers:
        send(settings, [*punctuations(first - 1, 1), *until_half])
        records = until("the band", lambda: workers.check() and read_all(settings, topics.CAMERA_BANDS), 180)
        (found,) = (CameraBands.model_validate_json(record.value) for record in records)
        assert found.station == "milan"
        (one,) = found.bands
        assert (one.camera, one.pairs) == ("main", MIN_PAIRS)
        assert (one.far_band.top, one.far_band.bottom) == (offline.top, offline.bottom)

        # A band for a camera whose record sets one is not used.
        other = CameraBands(
            station="set", bands=(FoundBand(camera="main", far_band=FarBand(top=0.6, bottom=0.9), pairs=120),)
        )
        send(settings, [Sent(topics.CAMERA_BANDS, b"set", other.model_dump_json().encode())])
        name = settings.kafka.prefix + topics.CAMERA_BANDS.name
        until(
            "vision to have read the bands", lambda: workers.check() and _committed(settings, name) >= 2, 60
        )
        pictures = dict(data.frames)
        send(
            settings,
            [
                *(record for at, record in timed if at > half),
                *(frame("set", at, pictures[at].read_bytes()) for at in later),
                *punctuations(max(later) + 3 * HOUR, 1),
            ],
        )

        wanted = {(station.station, at) for station in stations for at in later}

        def seen() -> dict[tuple[str, int], Features] | None:
            read = [
                Features.model_validate_json(record.value)
                for record in read_all(settings, topics.FEATURES)
                if record.key is not None
            ]
            by_frame = {(one.station, round(one.captured_at.timestamp() * 1000)): one for one in read}
            return by_frame if wanted <= by_frame.keys() else None

        features = until("the features of all frames", lambda: workers.check() and seen(), 120)
    for name, layout in (
        ("milan", f"far:{offline.top:.3f}-{offline.bottom:.3f},0.000-1.000"),
        ("set", "far:0.100-0.400,0.000-1.000"),
    ):
        usable = [features[name, at] for at in later if features[name, at].quality.usable]
        assert len(usable) > 10
        for one in usable:
            assert one.camera_layout == layout
            assert {"camera", "camera_whole"} <= one.embeddings.keys()
            assert "rows" not in one.embeddings
    before = [one for (name, at), one in features.items() if name == "milan" and one.camera_layout == "whole"]
    assert all("rows" in one.embeddings for one in before)


def _committed(settings: Settings, topic: str) -> int:
    """Up to which record vision has read a topic's only partition."""
    group = f"{settings.kafka.prefix}skyfuse-vision"
    consumer = KafkaConsumer(**client_arguments(settings.kafka), group_id=group, enable_auto_commit=False)
    try:
        return consumer.committed(TopicPartition(topic, 0)) or 0
    finally:
        consumer.close()
