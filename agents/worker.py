"""Build the Faust app of a role from settings: what `skyfuse worker ROLE` runs."""

import gc
import logging
import signal
from typing import Final, Literal

import faust

from agents.away import Away, end_within
from agents.builders import (
    AlertBuilder,
    ForecastBuilder,
    FusionBuilder,
    NetworkBuilder,
    SinkBuilder,
    VisionBuilder,
)
from settings.sections import Settings
from streams.credentials import for_faust
from streams.driver import AppOptions, BatchApp, WebAddress, build_app
from streams.web import add_pages

Role = Literal["vision", "fusion", "network", "sink", "alert", "forecast"]
#: Python's collector, tuned to long-lived windows.
GC_THRESHOLDS: Final = (100_000, 50, 100)
ROLES: Final[tuple[Role, ...]] = ("vision", "fusion", "network", "sink", "alert", "forecast")


def started(settings: Settings, *, replay: bool) -> tuple[Role, ...]:
    """The roles that run where everything does: forecasts and the network only where they are wanted.

    Forecasts of each hour of years that are replayed take longer than all the rest: there they are asked for.
    """
    forecasts = settings.forecast.up
    wanted = {
        "forecast": not replay if forecasts is None else forecasts,
        "network": settings.network.enabled,
    }
    return tuple(role for role in ROLES if wanted.get(role, True))


def build(role: Role, settings: Settings, web_port: int, web_host: str) -> BatchApp:
    """The app of one role. It starts when it is handed to a Faust worker."""
    builder = {
        "vision": VisionBuilder,
        "fusion": FusionBuilder,
        "network": NetworkBuilder,
        "sink": SinkBuilder,
        "alert": AlertBuilder,
        "forecast": ForecastBuilder,
    }[role](settings)
    kafka = settings.kafka
    assert kafka.bootstrap is not None
    app = build_app(
        builder.names.group(role),
        [builder.names.of(topic) for topic in builder.inputs],
        builder.open,
        AppOptions(
            kafka.bootstrap,
            str(settings.data_dir / "faust" / role),
            for_faust(kafka),
            builder.max_poll_records,
            kafka.session_timeout.total_seconds(),
            WebAddress(web_host, web_port) if web_port else None,
        ),
    )
    builder.app = app
    add_pages(app, role, builder.model)
    return app


class Worker(faust.Worker):
    """Faust's worker; within ten seconds of SIGTERM or SIGINT it has ended, with or without a broker."""

    def __init__(self, app: faust.App, broker: str, loglevel: str) -> None:
        super().__init__(app, loglevel=loglevel, redirect_stdouts=False, quiet=False)
        self._away = Away(broker)

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        """Faust has made the handlers."""
        super().on_setup_root_logger(logger, level)
        for handler in logger.handlers:
            handler.addFilter(self._away)

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        end_within()
        super()._schedule_shutdown(signal)


def run(role: Role, settings: Settings, web_port: int, web_host: str, loglevel: str = "INFO") -> None:
    """Run a role's worker in this process until it is told to stop. Exits with 1 where it crashed."""
    (settings.data_dir / "faust" / role).mkdir(parents=True, exist_ok=True)
    app = build(role, settings, web_port, web_host)
    # Windows hold many small objects for minutes; the default thresholds would walk them again and again
    # (a third of the join's time: docs/performance.md).
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    assert settings.kafka.bootstrap is not None
    Worker(app, settings.kafka.bootstrap, loglevel).execute_from_commandline()
