"""Whether the network stage takes part where it has to, and where `up` runs it."""

import pytest

from cli.shared.checks import as_up_runs_it, network_stage
from settings.sections import KafkaSettings, NetworkSettings, Settings


@pytest.mark.parametrize(
    ("enabled", "members", "state", "word"),
    [
        (True, {"fusion": 2, "network": 0}, "bad", "worker network"),
        (True, {"fusion": 2, "network": 1}, "ok", ""),
        (True, {"fusion": 0, "network": 0}, "ok", ""),
        (False, {"fusion": 1, "network": 1}, "bad", "network.enabled"),
        (False, {"fusion": 0, "network": 1}, "bad", "network.enabled"),
        (False, {"fusion": 1, "network": 0}, "ok", ""),
    ],
)
def test_stage_and_setting_go_together(enabled: bool, members: dict[str, int], state: str, word: str) -> None:
    found = network_stage(enabled, members)
    assert found.state == state
    assert word in found.mend
    assert bool(found.mend) == (state == "bad")


def test_up_runs_the_network_unless_told_otherwise() -> None:
    assert as_up_runs_it(Settings()).network.enabled
    assert not as_up_runs_it(Settings(network=NetworkSettings(enabled=False))).network.enabled
    assert as_up_runs_it(Settings(network=NetworkSettings(radius_km=9))).network.radius_km == 9
    own = Settings(kafka=KafkaSettings(bootstrap="127.0.0.1:1"))
    assert not as_up_runs_it(own).network.enabled, "others may run beside it, who were not told"
    own = Settings(kafka=own.kafka, network=NetworkSettings(enabled=True))
    assert as_up_runs_it(own).network.enabled
