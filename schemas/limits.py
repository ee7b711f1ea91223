"""How much one station, or one partition, may bring: nothing that strangers send grows without bound.

Each is far above what real stations have, and small enough that everything at its limit still fits: a
station's checkpoint into a record of its topic, a partition's stations into a worker's memory.
"""

from typing import Final

from schemas.times import DAY_MS, MINUTE_MS

#: Sensors of a station. The largest reference sites have about twenty.
SENSORS_PER_STATION: Final = 64
#: Cameras of a station.
CAMERAS_PER_STATION: Final = 16
#: Distinct (sensor, parameter, channel) of a station. Quality control remembers up to 4.5 kB of each, so that
#: a checkpoint stays under 2.5 of the 4 MiB that its topic takes.
SERIES_PER_STATION: Final = 512
#: Standards that a station declares: each adds an index to every estimate.
STANDARDS_PER_STATION: Final = 16
#: Records of a station that were in force before the present one, each for its time.
VERSIONS_PER_STATION: Final = 32
#: Cameras and addresses that gateways ask for a station.
SOURCES_PER_STATION: Final = 32
#: Stations on a partition; about 100 kB of memory each. More need more partitions.
STATIONS_PER_PARTITION: Final = 5_000
#: Event time (ms) after which what was not heard is forgotten, with all that was learned of it: 90 days.
#: By then no average reaches back so far, and a camera's view, or a sensor's drift, is not what it was.
FORGOTTEN_AFTER_MS: Final = 90 * DAY_MS
#: A clock may run ahead of whoever takes in what it stamps by so much, ms; more is a clock that is wrong.
MAX_AHEAD_MS: Final = 5 * MINUTE_MS
