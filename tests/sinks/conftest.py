"""The engines are those of tests/outputs."""

from tests.outputs.conftest import influx, influx_server, proxy, victoria

__all__ = ["influx", "influx_server", "proxy", "victoria"]
