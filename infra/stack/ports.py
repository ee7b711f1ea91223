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


def expect_loopback() -> None:
    """Raise StackError where programs of this machine cannot reach each other on it."""
    try:
        with socket.socket() as server:
            server.bind((HOST, 0))
            server.listen()
            socket.create_connection(server.getsockname(), timeout=1.0).close()
    except OSError as error:
        raise StackError(
            f"{HOST} cannot be reached ({error.strerror or error}): this machine's loopback interface is down"
            " or not there. Bring it up (`ip link set lo up`), or give the container a network"
        ) from error


def expect_free(host: str, port: int, option: str) -> None:
    """Raise StackError where a server cannot listen on host and port; `option`: what names the port."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise StackError(
            f"nothing can be served at {host}:{port} ({error.strerror or error}): end the program that"
            f" listens there, or give another with {option}"
        ) from error


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
