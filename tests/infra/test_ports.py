"""Ports on this machine: what cannot be listened at is one sentence, and at once."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from infra.errors import BrokerError, StackError
from infra.stack import ports
from infra.stack.broker import EmbeddedBroker
from infra.stack.ports import expect_free, expect_loopback

#: RFC 5737: no machine has this address.
NOWHERE = "192.0.2.1"


def test_a_machine_that_reaches_itself() -> None:
    expect_loopback()


def test_no_loopback_is_one_sentence_before_anything_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "HOST", NOWHERE)
    with pytest.raises(StackError, match=r"^192.0.2.1 cannot be reached \(.*loopback interface is down"):
        expect_loopback()
    with pytest.raises(BrokerError, match="loopback interface is down"):
        EmbeddedBroker(tmp_path).start()


def test_a_loopback_that_is_down_is_noticed() -> None:
    """It can be bound to then, and not be reached."""
    alone = ["unshare", "-rn", sys.executable, "-c"]
    if subprocess.run([*alone, ""], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network namespace of one's own here")
    code = "from infra.stack.ports import expect_loopback; expect_loopback()"
    told = subprocess.run([*alone, code], capture_output=True, text=True, check=False)
    assert "127.0.0.1 cannot be reached (Network is unreachable)" in told.stderr.splitlines()[-1]


def test_a_taken_port_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFUSE_KAFKA__BOOTSTRAP", "127.0.0.1:9")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken = server.getsockname()[1]
        told = CliRunner().invoke(app, ["worker", "fusion", "--web-port", str(taken)])
    assert isinstance(told.exception, StackError)
    assert str(told.exception).startswith(
        f"nothing can be served at 127.0.0.1:{taken} (Address already in use): end the program"
    )
    with pytest.raises(StackError, match="--web-port"):
        expect_free(NOWHERE, 8080, "--web-port")
    expect_free("127.0.0.1", taken, "--web-port")
