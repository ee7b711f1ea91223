"""No command and no worker shows a secret: neither in what it prints or logs, nor in any traceback."""

import gc
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import ValidationError

from agents.worker import ROLES, build
from cli import main as cli
from infra.stack.ports import free_port
from schemas.secret import SecretError
from settings.sections import InfluxSettings, KafkaSettings, RedisSettings, Settings
from settings.token_file import read_token
from tests.harness import until
from tests.influx2 import Influx2

#: No piece of it may be seen: a client may cut what it quotes.
SECRET = "Zq7xVk9pWm2d"
PIECES = [SECRET[start : start + 6] for start in range(len(SECRET) - 5)]

WELL_FORMED = {
    "SKYFUSE_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "SKYFUSE_KAFKA__SASL_USERNAME": "me",
    "SKYFUSE_KAFKA__SASL_PASSWORD": SECRET,
    "SKYFUSE_INFLUX__TOKEN": f"{SECRET}\n",
    "SKYFUSE_INFLUX_ADMIN_TOKEN": f"{SECRET}\r\n",
    "SKYFUSE_INFLUX_ADMIN_PASSWORD": f"{SECRET}\n",
}
DAMAGED = {
    "password": {"SKYFUSE_KAFKA__SASL_PASSWORD": f"{SECRET[:6]}\x07{SECRET[6:]}"},
    "token": {"SKYFUSE_INFLUX__TOKEN": f"{SECRET[:6]}\n{SECRET[6:]}"},
    "no text": {"SKYFUSE_INFLUX__TOKEN": f"{SECRET}\udcff"},
    "operator": {"SKYFUSE_INFLUX_ADMIN_TOKEN": f"{SECRET[:6]}\n{SECRET[6:]}"},
    "cache": {"SKYFUSE_REDIS__URL": f"redis://:{SECRET}/{SECRET}@127.0.0.1:1/0"},
    "port": {"SKYFUSE_REDIS__URL": f"redis://127.0.0.1:{SECRET}/0"},
    "no number": {"SKYFUSE_KAFKA__PARTITIONS": SECRET},
}
#: Arguments without which a command says no more than how it is used.
ARGUMENTS = {
    "replay": ["nowhere"], "up": ["--for", "1", "--no-simulate"], "simulate": ["--for", "1"],
    "influx init": ["--tokens", "tokens"], "dlq show": ["1"], "dlq redrive": ["--all"],
    "alerts explain": ["s"], "alerts cap": ["x"], "invalidate": ["--list"], "annotate": ["--list"],
    "aqi": ["pm25=3"], "share": ["ngsi-ld"],
}  # fmt: skip
_PATIENCE_S = 1.5
#: What runs until it is stopped has a test of its own; what needs no settings at all is left out.
ELSEWHERE = {"worker", "train", "evaluate", "export", "bench", "simulate"}


def commands() -> Iterator[str]:
    """Every command that there is, now and later."""
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        yield from [name] if inner is None else [f"{name} {one}" for one in inner]


@pytest.fixture
def server() -> Iterator[Influx2]:
    one = Influx2()
    yield one
    one.close()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Influx2) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SKYFUSE_KAFKA__BOOTSTRAP", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("SKYFUSE_INFLUX__URL", server.url)
    monkeypatch.setenv("SKYFUSE_REDIS__URL", f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
    for name, value in WELL_FORMED.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def shown(
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> str:
    """All that a command shows, its traceback included."""
    monkeypatch.setattr(sys, "argv", ["skyfuse", *words])
    trace = ""
    # Some try for a minute to reach the broker: like Ctrl-C, and the traceback is looked at, too.
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
    with caplog.at_level(logging.DEBUG):
        try:
            cli.main()
        except SystemExit:
            pass
        except (Exception, KeyboardInterrupt):  # noqa: BLE001 - whatever it is: its traceback is looked at
            trace = traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    gc.collect()  # here, where what was left open may be complained of
    out, err = capfd.readouterr()
    return out + err + caplog.text + trace


def secret_free(text: str) -> bool:
    return not any(piece in text for piece in PIECES)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("command", [name for name in commands() if name not in ELSEWHERE])
def test_no_command_shows_a_secret(
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = [*command.split(), *ARGUMENTS.get(command, [])]
    text = shown(words, monkeypatch, capfd, caplog)
    assert secret_free(text), text


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("command", ["doctor", "topics", "influx init", "query"])
def test_a_damaged_secret_is_one_sentence(
    command: str,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in DAMAGED[damage].items():
        monkeypatch.setenv(name, value)
    text = shown([*command.split(), *ARGUMENTS.get(command, [])], monkeypatch, capfd, caplog)
    assert secret_free(text), text
    assert "Traceback" not in text
    if damage != "operator" or command == "influx init":
        said = [line for line in text.splitlines() if line.startswith("skyfuse: ")]
        assert len(said) == 1, text


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("role", ROLES)
def test_a_worker_that_is_set_up_has_no_secret_in_what_it_tells_of_itself(
    role: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        app = build(role, Settings(), 0, "127.0.0.1")  # type: ignore[arg-type]
        told = f"{app!r} {app.conf!r} {app.conf.broker_credentials!r} {Settings()!r}"
    assert secret_free(caplog.text + told)


#: One that waits for its broker, and one that had one and lost it: it is with Faust and aiokafka.
WAITS = ["-m", "cli.main", "worker", "sink", "--log-level", "DEBUG"]
LOST = [
    "-c",
    "from agents.worker import run; from settings.sections import Settings\n"
    "run('sink', Settings(), 0, '127.0.0.1', 'DEBUG')",
]


@pytest.mark.parametrize(("command", "said"), [(WAITS, "waiting for the broker"), (LOST, "Unable connect")])
def test_a_worker_whose_broker_is_away_logs_no_secret(place: Path, command: list[str], said: str) -> None:
    log = place / "log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, *command],
            stdout=out, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        )  # fmt: skip
        try:
            until(said, lambda: said in log.read_text() or child.poll() is not None, 60)
        finally:
            child.kill()
            child.wait()
    text = log.read_text()
    assert said in text
    assert secret_free(text)


def test_a_line_end_is_no_part_of_a_secret() -> None:
    token = InfluxSettings.model_validate({"token": " abc\n"}).token
    password = KafkaSettings.model_validate({"sasl_password": " a b \r\n"}).sasl_password
    assert token is not None
    assert password is not None
    assert token.get_secret_value() == "abc"
    assert password.get_secret_value() == " a b "


def test_settings_say_what_is_wrong_without_what_was_given() -> None:
    for section, given in (
        (InfluxSettings, {"token": f"{SECRET}\n{SECRET}"}),
        (KafkaSettings, {"sasl_password": f"{SECRET}\x00{SECRET}"}),
        (RedisSettings, {"url": f"redis://:a/{SECRET}@h:1"}),
        (RedisSettings, {"url": f"redis://:{SECRET}\n@h:1"}),
    ):
        with pytest.raises(ValidationError) as told:
            section.model_validate(given)
        assert secret_free("".join(traceback.format_exception(told.value)))


def test_a_token_or_its_file_but_not_both(tmp_path: Path) -> None:
    file = tmp_path / "write.token"
    with pytest.raises(ValidationError, match="both set"):
        InfluxSettings.model_validate({"token": "t", "token_file": file})
    settings = InfluxSettings(token_file=file)
    with pytest.raises(SecretError, match=r"write\.token is not there"):
        settings.read_token()
    file.write_text("one\n")
    assert settings.read_token() == "one"
    file.write_text("two")
    assert settings.read_token() == "two"
    assert InfluxSettings().read_token() == ""


@pytest.mark.parametrize(
    ("held", "wrong"),
    [
        (b"", "is empty"), (b"\n", "is empty"), (f"{SECRET}\n{SECRET}".encode(), "is damaged"),
        (f"{SECRET}\xff".encode("latin-1"), "is damaged"), (b"\x00" + SECRET.encode(), "is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_said_without_what_it_holds(tmp_path: Path, held: bytes, wrong: str) -> None:
    file = tmp_path / "a.token"
    file.write_bytes(held)
    with pytest.raises(SecretError, match=rf"a\.token {wrong}") as told:
        read_token(file)
    assert secret_free("".join(traceback.format_exception(told.value)))
