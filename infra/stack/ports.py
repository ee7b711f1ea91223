"""Free TCP ports on 127.0.0.1 for the servers of the local stack."""

import random
import socket
from pathlib import Path
from typing import Final

from infra.errors import StackError

HOST: Final = "127.0.0.1"
_TRIES: Final = 200
_LOWEST: Final = 10_000
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now (connections that are still fading do not matter)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """`preferred` if it is free, else a free port at random. Raises StackError.

    Below the range from which the kernel takes ports for outgoing connections: a client that keeps dialling
    the port of a server that is down could get that very port, connect to itself, and keep the server out.
    """
    if preferred is not None and is_free(preferred):
        return preferred
    lowest_ephemeral = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32_768
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, max(lowest_ephemeral, _LOWEST + 1000))
        if is_free(port):
            return port
    raise StackError(f"no free port on {HOST} in {_TRIES} tries: too many servers run on this machine")
