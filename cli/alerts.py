"""`skyfuse alerts`: what is open, why an alert is or is not open, and alerts to others (web hook, CAP)."""

import signal
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr, ValidationError
from rich.console import Console
from rich.markup import escape

from agents import rules_file
from agents.notifier import notify
from alerting.explained import explain_station, explain_worker
from alerting.rules import AlertRules
from alerting.station import StationAlerts
from alerting.stored import FORESEEN, read
from alerting.words import Explanation, lasting, number, subject
from cli.errors import NotifyError, QueryError
from cli.shared.connection import kafka_connection
from cli.shared.times import local_time, zones_of
from cli.shared.wording import counted
from exchange import cap
from exchange.webhook import Webhook
from infra.connect import broker_at_hand
from infra.errors import BrokerError
from schemas.alert import Alert
from schemas.base import format_time, from_ms, to_ms
from schemas.times import in_ms
from settings.sections import Settings
from sinks.store import Store
from streams.checkpoint import Checkpoints
from streams.errors import TopicReadError
from streams.patience import Patience
from streams.to_end import read_topic
from streams.topics import ALERT_STATE, ALERTS

app = typer.Typer(
    help="Open alerts, the reasons behind them, and ways to pass them on.", no_args_is_help=True
)

#: How much of a station's history `explain` runs the rules over.
EXPLAIN_OVER: Final = timedelta(hours=24)
#: Stations that are named where another was asked for.
_NAMED: Final = 30
_COLOURS: Final = {
    "info": "cyan", "minor": "yellow", "moderate": "dark_orange", "severe": "red", "extreme": "bold red",
}  # fmt: skip
RulesOption = Annotated[
    Path | None, typer.Option("--rules", help="Rules file; that of the settings if not given.")
]


def newest(connection: dict[str, Any], topic: str) -> tuple[list[Alert], int]:
    """The newest event of each alert on `topic`, oldest first, and how many records are no alerts.

    Raises TopicReadError.
    """
    found: dict[str, Alert] = {}
    strange = 0
    for record in read_topic(connection, topic):
        if record.value is None:
            continue
        try:
            alert = Alert.model_validate_json(record.value)
        except ValidationError:
            strange += 1
            continue
        if alert.id not in found or alert.sequence >= found[alert.id].sequence:
            found[alert.id] = alert
    return sorted(found.values(), key=lambda alert: (alert.at, alert.id)), strange


def worker_states(settings: Settings, connection: dict[str, Any]) -> dict[str, StationAlerts]:
    """The alert worker's states of all stations of all partitions. Raises TopicReadError, NewerState."""
    kept: dict[int, dict[bytes, Any]] = {}
    for record in read_topic(connection, settings.kafka.names.of(ALERT_STATE)):
        kept.setdefault(record.partition, {})[record.key] = record
    states: dict[str, StationAlerts] = {}
    for partition, records in kept.items():
        there = [record for record in records.values() if record.value is not None]
        found = Checkpoints(ALERT_STATE.name, partition).load(there, 2**62, read)
        states |= {name: state for name, (_, state) in found.items()}
    return states


def _rules(settings: Settings, file: Path | None) -> AlertRules:
    return rules_file.load(file or settings.alerts.rules)


@app.command("list")
def list_command(
    all: Annotated[bool, typer.Option("--all", help="Also alerts that are over.")] = False,
) -> None:
    """List the open alerts."""
    # Standard output holds what was asked for, and nothing else.
    with broker_at_hand(Settings(), lambda text: typer.echo(f"skyfuse: {text}", err=True)) as settings:
        alerts, strange = newest(kafka_connection(settings), settings.kafka.names.of(ALERTS))
    shown = [alert for alert in alerts if all or alert.event in ("open", "update")]
    # Two lines each, not a table: at 80 columns a table cuts the station that `explain` needs.
    console = Console(soft_wrap=True, highlight=False)
    zones = _zones(settings)
    for alert in shown:
        state = {"clear": "cleared", "retract": "withdrawn"}.get(alert.event, "open")
        colour = _COLOURS[alert.severity]
        since = f"{format_time(alert.since)}{_local(alert.since, zones.get(alert.station))}"
        console.print(
            f"[bold]{escape(alert.station)}[/bold]  {escape(alert.rule)}"
            f"  [{colour}]{alert.severity}[/{colour}]  {state} since {since}"
        )
        console.print(f"    {escape(alert.reason)}")
    console.print(counted(len(shown), "alert" if all else "open alert"))
    if shown:
        console.print("why, and when it ends: `skyfuse alerts explain STATION`", style="dim")
    if strange:
        console.print(
            f"{strange} record{'' if strange == 1 else 's'} on {settings.kafka.names.of(ALERTS)} could not"
            " be read as alerts: something else writes there, or another version of skyfuse",
            style="yellow",
        )


@app.command("check")
def check_command(
    file: Annotated[
        Path | None, typer.Argument(help="Rules file; that of the settings if not given.")
    ] = None,
) -> None:
    """Say what the rules in a file watch for, or every mistake in it with its line."""
    settings = Settings()
    chosen = _rules(settings, file)
    console = Console(highlight=False, soft_wrap=True)
    for rule in chosen.rule:
        steps = ", ".join(
            # A trouble is there or not: it has no number.
            step.severity if rule.trouble else f"{step.severity} from {number(rule, step.enter)}"
            for step in rule.steps
        )
        stations = "" if rule.stations == ("*",) else f"; at {', '.join(rule.stations)}"
        console.print(f"[bold]{escape(rule.id)}[/bold]  {escape(f'{subject(rule)}: {steps}{stations}')}")
    where = file or settings.alerts.rules or "the default set"
    console.print(f"{escape(str(where))}: {counted(len(chosen.rule), 'rule')}, no mistake")


@app.command("explain")
def explain_command(
    station: Annotated[str, typer.Argument(help="Station id.")], rules: RulesOption = None
) -> None:
    """Say for each rule why its alert is or is not open at a station."""
    settings = Settings()
    chosen = _rules(settings, rules)
    console = Console(highlight=False, soft_wrap=True)
    zone = _zones(settings).get(station)
    unasked = ""
    known: set[str] = set()
    if rules is None:
        try:
            connection = kafka_connection(settings)
            told, _ = newest(connection, settings.kafka.names.of(ALERTS))
            states = worker_states(settings, connection)
        except (BrokerError, TopicReadError) as error:
            unasked = f"worked out from the local store, without the alert worker: {error}"
        else:
            # Of a station that was retired, an empty state is kept for a while.
            heard = {
                name
                for name, state in states.items()
                if state.rhythm.newest and not name.startswith(FORESEEN)
            }
            known |= heard
            if station in heard or any(one.station == station for one in told):
                if station in heard:
                    own, now = states[station].rhythm.newest, max(one.watermark for one in states.values())
                    console.print(_ages(station, from_ms(own), from_ms(now), zone), style="dim")
                _show(console, chosen, station, explain_worker(chosen, states, told, station))
                return
    if known and not settings.store_path.exists():
        raise _unknown(station, known)
    with Store(settings.store_path, read_only=True) as store:
        latest = store.latest()
        if not any(one.station == station for one in latest):
            raise _unknown(station, known | {one.station for one in latest})
        newest_end = max(one.window.end for one in latest)
        own_end = next(one.window.end for one in latest if one.station == station)
        estimates = store.read(station, since=own_end - EXPLAIN_OVER)
        estimates += [one for one in latest if one.station != station and one.window.end == newest_end]
        forecasts = store.forecasts(station)
    console.print(_ages(station, own_end, newest_end, zone), style="dim")
    if unasked:
        console.print(escape(unasked), style="dim")
    began = to_ms(own_end - EXPLAIN_OVER)
    _show(console, chosen, station, explain_station(chosen, estimates, station, began, forecasts))


def _unknown(station: str, known: Collection[str]) -> QueryError:
    listed = ", ".join(sorted(known)[:_NAMED]) or "none yet"
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return QueryError(f"station {station} is unknown; stations with estimates: {listed}{more}")


def _zones(settings: Settings) -> dict[str, tzinfo]:
    """Of stations whose clocks do not show UTC, as far as the local store knows them."""
    if not settings.store_path.is_file():
        return {}
    with Store(settings.store_path, read_only=True) as store:
        return zones_of(store.stations())


def _local(at: datetime, zone: tzinfo | None) -> str:
    return "" if zone is None else f" ({local_time(at, zone)})"


def _ages(station: str, own: datetime, network: datetime, zone: tzinfo | None) -> str:
    age = datetime.now(UTC) - network
    return (
        f"{escape(station)}: newest window {format_time(own)}{_local(own, zone)}; of the network"
        f" {format_time(network)}, {lasting(max(0, in_ms(age)))} ago"
    )


def _show(console: Console, rules: AlertRules, station: str, explained: list[Explanation]) -> None:
    for one in explained:
        mark = f"[{_COLOURS[one.severity]}]●[/{_COLOURS[one.severity]}]" if one.open else "[green]○[/green]"
        console.print(f"{mark} [bold]{escape(one.rule)}[/bold]  {escape(one.text)}")
    for rule in rules.rule:
        if not rule.is_for(station):
            console.print(
                f"- [bold]{escape(rule.id)}[/bold]  is not for this station: stations ="
                f" {escape(', '.join(rule.stations))}",
                style="dim",
            )
    if not rules.rule:
        console.print("there are no rules")


@app.command("cap")
def cap_command(
    id: Annotated[str, typer.Argument(help="Alert id, as on the topic: station/rule/time.")],
    sender: Annotated[str, typer.Option(help="Who answers for the alert: an address or a domain.")],
    status: Annotated[str, typer.Option(help="Actual, Exercise, System, Test or Draft.")] = "Actual",
    rules: RulesOption = None,
) -> None:
    """Print the newest event of an alert as a CAP 1.2 message."""
    settings = Settings()
    chosen = _rules(settings, rules)
    alerts, _ = newest(kafka_connection(settings), settings.kafka.names.of(ALERTS))
    alert = next((one for one in alerts if one.id == id), None)
    if alert is None:
        raise QueryError(f"no alert {id}: `skyfuse alerts list --all` names those that are there")
    rule = next((one for one in chosen.rule if one.id == alert.rule), None)
    if rule is None:
        raise QueryError(
            f"the rules have no rule {alert.rule}: name the file that made the alert with --rules"
        )
    station = None
    if settings.store_path.is_file():
        with Store(settings.store_path, read_only=True) as store:
            station = store.stations().get(alert.station)
    try:
        print(cap.render(alert, rule, station, sender=sender, status=status), end="")
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--sender") from error


@app.command("notify")
def notify_command(
    url: Annotated[str, typer.Argument(help="Where to POST every alert event.")],
    secret_file: Annotated[Path, typer.Option(help="File with the shared secret that signs the events.")],
    group: Annotated[
        str, typer.Option(help="Consumer group: where it left off is kept under this name.")
    ] = "skyfuse-webhook",
) -> None:
    """Pass every alert event on to a web hook, from where this group left off, until interrupted."""
    settings = Settings()
    try:
        secret = SecretStr(secret_file.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise NotifyError(f"the secret {secret_file} cannot be read: {error}") from error
    if not secret.get_secret_value():
        raise NotifyError(f"the secret file {secret_file} is empty: write a long random text into it")
    console = Console(highlight=False)
    with _until_interrupted() as stopping:
        webhook = Webhook(
            url,
            secret.get_secret_value().encode(),
            Patience.until(
                stopping,
                lambda trouble, seconds: console.print(f"waiting {seconds:.0f} s: {escape(trouble.words)}"),
            ),
            time.time,
            stopping=stopping,
        )
        notify(
            kafka_connection(settings),
            settings.kafka.names,
            group,
            webhook,
            stopping,
            tell=lambda line: console.print(escape(line)),
        )


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    stopping = threading.Event()
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    for one in before:
        signal.signal(one, lambda *_: stopping.set())
    try:
        yield stopping
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
