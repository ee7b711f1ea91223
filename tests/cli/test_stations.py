"""`skyfuse stations retire` on a real broker."""

import pytest
from typer.testing import CliRunner

from cli.main import app
from infra.connect import environment
from streams.accept import Keys
from streams.admin import create_topics
from streams.topics import STATIONS
from tests.harness import read_all


@pytest.mark.broker
def test_a_retired_stations_record_is_a_tombstone_where_its_key_belongs(kafka_settings, monkeypatch):
    settings = kafka_settings()
    create_topics(settings)
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    result = CliRunner().invoke(app, ["stations", "retire", "milan"])
    assert result.exit_code == 0, result.output
    (record,) = read_all(settings, STATIONS)
    assert (record.key, record.value) == (b"milan", None)
    assert record.partition == Keys(settings.kafka.partitions).partition("milan")


def test_what_is_no_id_is_refused():
    assert CliRunner().invoke(app, ["stations", "retire", "a b"]).exit_code == 2
