"""The records of stations, as commands read them."""

from cli.shared.connection import kafka_connection
from schemas.station import Station
from settings.sections import Settings
from streams.stations import note_station
from streams.to_end import read_topic
from streams.topics import STATIONS


def station_records(settings: Settings) -> dict[str, Station]:
    """The records that there are, by station. Raises TopicReadError."""
    known: dict[str, Station] = {}
    for record in read_topic(kafka_connection(settings), settings.kafka.names.of(STATIONS)):
        note_station(known, record.key, record.value, lambda station: station)
    return known
