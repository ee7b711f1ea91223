"""How much of a window each of a series' readings counts for."""

from hypothesis import given
from hypothesis import strategies as st

from fusion.weighing import by_time
from streams.join import DECLARED, RUNNING, Item

SIZE = 3_600_000


def at(time: int, period: int = 0, basis: str = "") -> Item:
    return Item("s", time, time, (time,), None, None, 0, period=period, basis=basis)


def test_readings_that_nobody_declared_weigh_until_the_next_one_for_their_period_at_most() -> None:
    items = [at(0), at(100_000, 60_000), at(110_000, 60_000)]
    assert by_time(items, SIZE) == ([60_000, 10_000, 60_000], 130_000)
    assert by_time([at(0), at(100_000), at(110_000)], SIZE) == ([100_000, 10_000, 100_000], SIZE)
    assert by_time([at(50)], SIZE) == ([SIZE], SIZE)
    assert by_time([at(50, 2 * SIZE)], SIZE) == ([SIZE], SIZE)


def test_what_comes_evenly_counts_evenly() -> None:
    weights, covered = by_time([at(0), at(55_000, 60_000), at(120_000, 60_000), at(180_000, 60_000)], SIZE)
    assert len(set(weights)) == 1
    assert covered == 55_000 + 60_000 + 60_000 + 60_000


def test_the_last_of_a_burst_weighs_as_the_others_and_covers_the_rest() -> None:
    burst = [at(0, 600_000), at(10_000, 600_000), at(20_000, 600_000)]
    assert by_time(burst, SIZE) == ([10_000] * 3, 620_000)


def test_declared_means_weigh_what_they_declare_and_no_more_than_others_leave() -> None:
    means = [at(30_000, 60_000, DECLARED), at(200_000, 300_000, DECLARED)]
    assert by_time(means, SIZE) == ([60_000, 300_000], 360_000)
    plain = [at(time, 60_000) for time in range(0, SIZE - 120_000, 60_000)]
    weights, covered = by_time([*plain, at(SIZE - 1, SIZE, DECLARED)], SIZE)
    assert weights == [60_000] * len(plain) + [120_000]
    assert covered == SIZE
    assert by_time([at(0), at(1, SIZE, DECLARED)], SIZE) == ([SIZE, 0], SIZE)


def test_running_means_weigh_nothing_beside_others_and_cover_nothing() -> None:
    running = [at(time, SIZE, RUNNING) for time in (0, 600_000)]
    assert by_time(running, SIZE) == ([1, 1], 0)
    assert by_time([*running, at(1_800_000, SIZE, DECLARED)], SIZE) == ([0, 0, SIZE], SIZE)


@given(
    st.lists(
        st.tuples(
            st.integers(0, SIZE - 1), st.sampled_from([0, 10_000, 60_000, 2 * SIZE]),
            st.sampled_from(["", "", DECLARED, RUNNING]),
        ),
        min_size=1, unique_by=lambda one: one[0],
    )
)  # fmt: skip
def test_any_readings_have_weights_and_cover_no_more_than_the_window(
    ones: list[tuple[int, int, str]],
) -> None:
    items = [at(time, period or 1000 * bool(basis), basis) for time, period, basis in sorted(ones)]
    weights, covered = by_time(items, SIZE)
    assert len(weights) == len(items)
    assert min(weights) >= 0
    assert sum(weights) > 0
    assert 0 <= covered <= SIZE
