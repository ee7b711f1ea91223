"""What an estimate rests on, in sentences."""

from fusion.together.departures import drift_of
from network.drift import Departure
from tests.samples import estimate
from web.why import sentences


def test_a_sensor_that_drifts_is_told_in_words() -> None:
    calm = estimate()
    gone = drift_of(Departure("slide", 20_000, 20_018, 4.2, -0.18, -0.01, 0.0), "pm25")
    told = sentences(calm.model_copy(update={"drift": {"pm25": gone}}))
    assert [line.text for line in told if line not in sentences(calm)] == [
        "The drift watch says: pm25 slides by -1.0% a day, and reads 18% less than its neighbours let expect,"
        " since about 2024-10-04. Its neighbours do not listen to it."
    ]
