"""A station's clock: what is known of it from stamps and arrivals alone."""

from hypothesis import given
from hypothesis import strategies as st

from fleet.clock import ARRIVALS, LEAST, clock_offset_ms

offsets = st.integers(-7_200_000, 7_200_000)


@given(offsets, st.lists(st.integers(0, 2_000), min_size=LEAST, max_size=ARRIVALS), st.data())
def test_a_quarter_of_wild_stamps_and_slow_deliveries_change_little(
    true: int, delays: list[int], data: st.DataObject
) -> None:
    leads = [true - delay for delay in delays]
    wild = (len(leads) - 1) // 4
    leads[:wild] = data.draw(st.lists(st.integers(-(10**9), 10**9), min_size=wild, max_size=wild))
    found = clock_offset_ms(data.draw(st.permutations(leads)))
    assert found is not None
    assert true - 2_000 <= found <= true


@given(offsets, st.integers(0, 2_000), st.integers(3, ARRIVALS), st.data())
def test_most_deliveries_may_be_slow(true: int, quick: int, count: int, data: st.DataObject) -> None:
    slow = count * 3 // 4 - 1
    leads = [true - quick] * (count - slow)
    leads += data.draw(
        st.lists(st.integers(-(10**9), -2_000), min_size=slow, max_size=slow)
        .map(lambda late: [true + one for one in late])
    )  # fmt: skip
    assert clock_offset_ms(leads) == true - quick


def test_of_few_nothing_is_said() -> None:
    assert clock_offset_ms([5] * (LEAST - 1)) is None


def test_history_that_is_caught_up_with_says_nothing_of_the_clock() -> None:
    """An hour of it in twenty seconds, as `up` begins, and then the present."""
    caught_up = [-3_600_000, -2_500_000, -1_700_000, -960_000, -400_000]
    assert [clock_offset_ms(caught_up[:count]) for count in range(3, 6)] == [None] * 3
    assert clock_offset_ms([*caught_up, -800, -700]) == -800
    # And an hour in five minutes, an arrival every five seconds.
    assert clock_offset_ms([-3_600_000 + number * 59_000 for number in range(60)][:-ARRIVALS:-1]) is None
    assert clock_offset_ms([-960_000, -958_000, -961_000]) == -958_000  # as late each time
