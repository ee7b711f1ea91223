"""The state in memory: newer windows alone count; who comes back gets what it has not had, or is told so."""

from hypothesis import given
from hypothesis import strategies as st

from infra.stack.cache import EmbeddedCache
from schemas.base import from_ms
from schemas.dead_letter import DeadLetter
from settings.sections import KafkaSettings, RedisSettings, Settings
from sinks.cache import LatestCache
from sinks.store import Store
from tests.exchange.test_cap_and_webhook import EVENTS
from tests.samples import T0, estimate, imputed, index, measured
from web import live as module
from web.follow import Follower
from web.live import Event, LiveState, Missed, TopicPlace


def told(live: LiveState, partition: int, end: int = T0, station: str = "s1", revision: int = 1) -> None:
    place = TopicPlace("estimate", partition, live.reached("estimate", partition))
    live.estimate(estimate(station, end, revision, {"pm25": measured(5.0)}, (index(40),)), place)


@given(st.permutations([(T0, 1), (T0, 3), (T0 + 60, 1), (T0 + 60, 2), (T0 - 60, 9)]))
def test_the_newest_revision_of_the_newest_window_is_shown_in_whatever_order(order):
    live = LiveState(2)
    for end, revision in order:
        told(live, 0, end, revision=revision)
    current = live.latest["s1"]
    assert (current.end_ms, current.estimate.revision) == ((T0 + 60) * 1000, 2)
    assert live.number == len(order)


def test_a_cache_s_estimate_is_no_event():
    live = LiveState(1)
    live.estimate(estimate("s1", T0, 1, {}, ()), None)
    assert "s1" in live.latest
    assert live.number == 0


@given(st.lists(st.tuples(st.sampled_from("ea"), st.integers(0, 2)), max_size=30), st.data())
def test_who_comes_back_gets_each_event_it_has_not_had_once(sequence, data):
    live, other = LiveState(3), LiveState(3)
    cut = data.draw(st.integers(0, len(sequence)))
    ids, offset = [live.id], dict.fromkeys([(s, p) for s in "ea" for p in range(3)], 0)
    for stream, partition in sequence:
        for one in (live, other):
            if stream == "e":
                place = TopicPlace("estimate", partition, offset[stream, partition])
                one.estimate(estimate("s1", T0 + len(ids), 1, {}, ()), place)
            else:
                event = EVENTS[0].model_copy(update={"sequence": len(ids)})
                one.alert(event, TopicPlace("alert", partition, offset[stream, partition]))
        offset[stream, partition] += 1
        ids.append(live.id)
    # Another server, or the same after a restart, has the same events and knows the id.
    missed = other.resume(ids[cut])
    assert not isinstance(missed, Missed)
    assert [one.number for one in missed] == list(range(cut + 1, len(sequence) + 1))


def test_who_was_away_for_too_long_is_told_so(monkeypatch):
    monkeypatch.setattr(module, "_EVENTS", 5)
    live = LiveState(1)
    ids = []
    for n in range(20):
        told(live, 0, T0 + n)
        ids.append(live.id)
    assert isinstance(live.resume(ids[3]), Missed)
    kept = live.resume(ids[14])
    assert not isinstance(kept, Missed)
    assert [one.place.offset for one in kept] == [15, 16, 17, 18, 19]
    assert isinstance(live.since(3), Missed)
    assert isinstance(live.since(15), list)
    assert len(live.since(15)) == 5


def test_ids_of_others_begin_anew():
    live = LiveState(2)
    told(live, 1)
    for id in ("", "nonsense", "e1.1.1a0.0.0", "e9.9a0.0", "e1.xa0.0", "e" + "9" * 5000 + "a0"):
        assert isinstance(live.resume(id), Missed), id
    assert live.resume(live.id) == []


def test_memory_is_bounded_by_bytes(monkeypatch):
    monkeypatch.setattr(module, "_BYTES", 20_000)
    live = LiveState(1)
    for n in range(500):
        told(live, 0, T0 + n)
    events = live.resume(f"e{live.reached('estimate', 0) - 3}a0")
    assert not isinstance(events, Missed)
    assert len(events) == 3
    held = live.since(0)
    assert isinstance(held, Missed)
    kept = live.since(live.number - 20)
    assert isinstance(kept, list)
    assert all(isinstance(one, Event) for one in kept)


def test_a_retired_station_leaves_with_all_that_is_known_of_it():
    live = LiveState(1)
    told(live, 0)
    live.estimate(estimate("s2", T0, 1, {"pm25": imputed(1, 0, 2)}, ()), None)
    live.station("s1", None)
    assert set(live.latest) == {"s2"}
    assert "s1" not in live.measured
    assert "s1" not in live.first


def test_closed_alerts_leave_before_open_ones(monkeypatch):
    monkeypatch.setattr(module, "_ALERTS", 3)
    live = LiveState(1)
    for n in range(6):
        over = "clear" if n % 2 else "open"
        live.alert(EVENTS[0].model_copy(update={"id": f"s/r/{n}", "event": over}), TopicPlace("alert", 0, n))
    assert {one.event for one in live.alerts.values()} == {"open"}
    assert len(live.alerts) == 3


def test_a_cache_that_was_flushed_hides_no_station_that_has_not_spoken_since(tmp_path):
    old = [estimate(name, T0 + 60, 1, {"pm25": measured(5.0)}, (index(40),)) for name in ("s1", "s2")]
    newer = estimate("s1", T0 + 120, 1, {"pm25": measured(6.0)}, (index(41),))
    with EmbeddedCache(tmp_path / "cache") as server:
        settings = Settings(
            data_dir=tmp_path / "data", kafka=KafkaSettings(bootstrap="127.0.0.1:1"),
            redis=RedisSettings(url=server.url),
        )  # fmt: skip
        with Store(settings.store_path) as store:
            store.write(old)
        cache = LatestCache(server.url)
        cache.write([newer])
        cache.close()
        live = LiveState(1)
        Follower(settings, live).remember()
    assert {name: one.end_ms for name, one in live.latest.items()} == {
        "s1": 1000 * (T0 + 120),
        "s2": 1000 * (T0 + 60),
    }


def test_a_dead_letter_that_comes_again_is_counted_and_listed_once(monkeypatch):
    monkeypatch.setattr(module, "_LETTERS", 2)
    monkeypatch.setattr(module, "_LETTER_IDS", 3)
    live = LiveState(1)

    def letter(offset: int, code: str = "not_json", **more: object) -> None:
        live.letter(
            DeadLetter(
                stage="fusion", code=code, reason="because", topic="aq.readings.v1", partition=0,
                offset=offset, failed_at=from_ms(1000 * T0), **more,  # type: ignore[arg-type]
            )
        )  # fmt: skip

    letter(1)
    letter(2, "no_key")
    letter(1)  # refused once more by a worker that read it again, or read again after the broker was away
    assert dict(live.refused) == {"not_json": 1, "no_key": 1}
    letter(1, redriven_at=from_ms(1000 * T0 + 1))
    letter(1)  # it has been sent back all the same
    assert dict(live.refused) == {"not_json": 1, "no_key": 1}
    assert [(one.offset, one.redriven_at is None) for one in live.letters.values()] == [(2, True), (1, False)]
    for offset in (3, 4):
        letter(offset)
    assert list(live.letters) == ["aq.readings.v1/0/3", "aq.readings.v1/0/4"]
    assert live.refused["not_json"] == 3
    letter(2, "no_key")  # no longer listed, still known
    assert live.refused["no_key"] == 1
