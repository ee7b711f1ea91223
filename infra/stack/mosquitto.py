"""A local MQTT broker: Eclipse Mosquitto, where it is installed. Only programs on this machine reach it."""

import getpass
import shutil
import socket
import time
from pathlib import Path
from typing import Final

from infra.errors import MosquittoError, StackError
from infra.stack.ports import HOST, expect_loopback, free_port, is_free
from infra.stack.processes import PATIENCE_S, LocalServer, spawn, tail

#: MQTT's own.
PORT: Final = 1883
#: Where Debian puts programs of servers, which is not on everybody's path.
_SBIN: Final = "/usr/sbin/mosquitto"
#: The user is named since Mosquitto, started by root, would become one that cannot write there. What is kept
#: for a gateway that is away is written every second: else a killed broker forgets half an hour. Its queue of
#: a thousand messages, without this, is what a fleet sends in seconds.
_CONFIG: Final = """\
listener {port} {host}
user {user}
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 1
max_queued_messages 1000000
max_inflight_messages 0
message_size_limit 13000000
"""


class LocalMosquitto(LocalServer):
    """One Mosquitto under `folder`, on `port` (None: 1883, or a free one where that is taken).

    A context manager: started on entry. Raises MosquittoError where it is not installed.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__()
        self.folder = folder.absolute()
        self.log = self.folder / "mosquitto.log"
        self._port: int | None = port

    @property
    def url(self) -> str:
        """Its mqtt:// address. Raises MosquittoError before the first start."""
        if self._port is None:
            raise MosquittoError("Mosquitto has no port yet: start it first")
        return f"mqtt://{HOST}:{self._port}"

    def start(self, timeout: float = PATIENCE_S) -> None:
        """Start and wait until it takes connections. Raises MosquittoError."""
        program = shutil.which("mosquitto") or shutil.which(_SBIN)
        if program is None:
            raise MosquittoError(
                "Mosquitto is not installed (Debian, Ubuntu: apt-get install mosquitto; macOS: brew install"
                " mosquitto); or name a broker of yours in gateway.mqtt.url"
            )
        if self._port is None:
            self._port = PORT if is_free(PORT) else free_port()
        elif not is_free(self._port):
            raise MosquittoError(f"port {self._port} is taken: end the program that listens there")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            expect_loopback()
            mark = self.log.stat().st_size if self.log.exists() else 0
            config = self.folder / "mosquitto.conf"
            config.write_text(
                _CONFIG.format(port=self._port, host=HOST, folder=self.folder, user=getpass.getuser())
            )
            self._child = spawn([program, "-c", config], name="Mosquitto", log=self.log)
        except (OSError, StackError) as error:
            raise MosquittoError(f"cannot start Mosquitto in {self.folder}: {error}") from error
        deadline = time.monotonic() + timeout
        while self._child.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection((HOST, self._port), 1.0).close()
                return
            except OSError:
                self._child.wait(0.02)
        self.kill()
        raise MosquittoError(f"Mosquitto did not start; {self.log} says:\n{tail(self.log, 6, mark)}")
