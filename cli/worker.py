"""`skyfuse worker`: one worker, until it is told to stop."""

import functools
from contextlib import nullcontext
from enum import StrEnum
from typing import Annotated, cast

import typer

from agents.gateway import run_gateway
from agents.worker import Role, run
from infra.connect import with_broker
from infra.stack.ports import expect_free
from infra.stack.processes import ended_by_signals
from infra.stores import make_room_for_live
from settings.sections import Settings
from streams.admin import wait_for_broker
from streams.web import waiting_pages
from web.serve import run_web


class RoleName(StrEnum):
    """Which part of the pipeline a worker runs."""

    vision = "vision"
    fusion = "fusion"
    network = "network"
    sink = "sink"
    alert = "alert"
    forecast = "forecast"
    gateway = "gateway"
    web = "web"


def worker(
    role: Annotated[
        RoleName, typer.Argument(help="vision, fusion, network, sink, alert, forecast, gateway or web.")
    ],
    web_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port for /livez, /readyz and /metrics; 0: none.")
    ] = 0,
    web_host: Annotated[
        str, typer.Option(help="Address they are served at; 0.0.0.0 where another machine asks for them.")
    ] = "127.0.0.1",
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run one worker until it is told to stop."""
    settings = with_broker(Settings())
    if web_port:
        expect_free(web_host, web_port, "--web-port")
    if role is RoleName.web:  # without a broker it shows what the store has
        expect_free(settings.web.host, settings.web.port, "web.port (SKYFUSE_WEB__PORT)")
        run_web(settings, web_port, web_host, log_level)
        return
    if role is RoleName.gateway:  # it starts without a broker too, and keeps what comes on disk
        http = settings.gateway.http
        if http.port:
            expect_free(http.host, http.port, "gateway.http.port (SKYFUSE_GATEWAY__HTTP__PORT)")
        run_gateway(settings, web_port, web_host, log_level)
        return
    _await_broker(settings, role, web_port, web_host)
    if role is RoleName.sink:
        make_room_for_live(settings)
    run(cast(Role, role.value), settings, web_port, web_host, log_level)


def _await_broker(settings: Settings, role: str, web_port: int, web_host: str) -> None:
    """Return when the broker is there. Told to end before that, end well: nothing was begun."""
    pages = waiting_pages(web_host, web_port, role) if web_port else nullcontext()
    try:
        with ended_by_signals(), pages:
            wait_for_broker(settings.kafka, functools.partial(typer.echo, err=True))
    except (SystemExit, KeyboardInterrupt):
        raise typer.Exit from None
