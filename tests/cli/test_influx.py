"""`skyfuse influx init` against a stand-in for the API; docs/outputs.md says what was tried on a real one."""

import json
import os
import socket
import threading
import traceback

import pytest
from typer.testing import CliRunner

from cli.errors import InfluxInitError
from cli.main import app
from cli.shared.influx_setup import admin_of, initialise
from tests.influx2 import Influx2, _hash


@pytest.fixture
def server():
    one = Influx2()
    yield one
    one.close()


def run(server, folder, org="skyfuse", bucket="aq", operator=None, **environment):
    admin = admin_of(environment, folder, "admin", operator, None)
    return initialise(server.url, org, bucket, admin, folder)


def text(folder, name):
    return (folder / name).read_text()


def ids(server):
    return {server.bucket(name)["id"] for name in ("aq", "aq_hourly", "aq_daily")}


def descriptions(server):
    return sorted(one["description"] for one in server.authorizations.values())


def assert_complete(server, folder):
    kept = {
        name: server.bucket(name)["retentionRules"][0]["everySeconds"] / 86_400
        for name in ("aq", "aq_hourly", "aq_daily")
    }
    assert kept == {"aq": 90, "aq_hourly": 1830, "aq_daily": 0}
    setup = json.loads(text(folder, "setup.json"))["name"]
    assert descriptions(server) == [
        "admin's Token",
        f"skyfuse: read (Grafana), bucket aq, set-up {setup}",
        f"skyfuse: write, bucket aq, set-up {setup}",
    ]
    assert server.rights(text(folder, "write.token")) == {("write", "buckets", id) for id in ids(server)}
    assert server.rights(text(folder, "read.token")) == {("read", "buckets", id) for id in ids(server)}
    assert ("write", "authorizations", None) in server.rights(text(folder, "operator.token"))
    (user,) = server.users.values()
    assert (user["name"], user["password"]) == ("admin", _hash(text(folder, "admin.password")))


def test_an_empty_server_is_set_up(server, tmp_path):
    done = run(server, tmp_path / "tokens")
    assert_complete(server, tmp_path / "tokens")
    files = sorted(os.listdir(tmp_path / "tokens"))
    assert files == ["admin.password", "operator.token", "read.token", "setup.json", "write.token"]
    for file in files:
        assert (tmp_path / "tokens" / file).stat().st_mode & 0o777 == 0o600
        assert not any(text(tmp_path / "tokens", file) in line for line in done)
    assert len(done) == 7


def test_a_second_run_changes_nothing(server, tmp_path):
    run(server, tmp_path)
    kept = {file: text(tmp_path, file) for file in os.listdir(tmp_path)}
    writes = server.writes
    assert run(server, tmp_path) == []
    assert server.writes == writes
    assert {file: text(tmp_path, file) for file in os.listdir(tmp_path)} == kept


def test_cut_short_at_any_request_it_can_be_run_again(tmp_path):
    whole = Influx2()
    run(whole, tmp_path / "whole")
    whole.close()
    for cut in range(1, len(whole.requests) + 1):
        for applied in (False, True):
            server, folder = Influx2(), tmp_path / f"{cut}{applied}"
            server.cut = cut, applied
            with pytest.raises(InfluxInitError, match="cannot be set up"):
                run(server, folder)
            assert len(server.requests) == cut
            server.cut = None
            run(server, folder)
            assert_complete(server, folder)
            writes = server.writes
            assert run(server, folder) == []
            assert server.writes == writes
            server.close()


def test_cut_short_before_a_token_is_on_the_disk(server, tmp_path):
    """The server has made it and withdrawn the one before; the file still holds the old one."""
    run(server, tmp_path)
    old = text(tmp_path, "write.token")
    (tmp_path / "write.token").unlink()
    run(server, tmp_path)
    (tmp_path / "write.token").write_text(old)
    run(server, tmp_path)
    assert_complete(server, tmp_path)


def test_secrets_that_are_given_are_used_and_not_written(server, tmp_path):
    run(server, tmp_path, SKYFUSE_INFLUX_ADMIN_TOKEN="mine", SKYFUSE_INFLUX_ADMIN_PASSWORD="long enough")
    assert sorted(os.listdir(tmp_path)) == ["read.token", "setup.json", "write.token"]
    assert ("write", "buckets", None) in server.rights("mine")
    (user,) = server.users.values()
    assert user["password"] == _hash("long enough")
    assert run(server, tmp_path, SKYFUSE_INFLUX_ADMIN_TOKEN="mine") == []


def test_secrets_of_files(server, tmp_path):
    (tmp_path / "given").write_text("of a file\n")
    admin = admin_of({}, tmp_path, "ada", tmp_path / "given", tmp_path / "made")
    initialise(server.url, "city", "air", admin, tmp_path / "tokens", days=7)
    assert ("write", "buckets", None) in server.rights("of a file")
    (user,) = server.users.values()
    assert (user["name"], user["password"]) == ("ada", _hash(text(tmp_path, "made")))
    assert server.bucket("air")["retentionRules"][0]["everySeconds"] == 7 * 86_400
    (tmp_path / "given").write_text("")
    admin = admin_of({}, tmp_path, "ada", tmp_path / "given", None)
    with pytest.raises(InfluxInitError, match="given, the operator token, is empty"):
        initialise(server.url, "city", "air", admin, tmp_path / "tokens")


def test_files_of_a_server_that_is_gone_are_replaced(server, tmp_path):
    run(server, tmp_path)
    new = Influx2()
    run(new, tmp_path)
    assert_complete(new, tmp_path)
    new.close()


def test_a_lost_token_is_replaced_not_added(server, tmp_path):
    run(server, tmp_path)
    lost = text(tmp_path, "write.token")
    (tmp_path / "write.token").unlink()
    done = run(server, tmp_path)
    assert text(tmp_path, "write.token") != lost
    assert server.rights(lost) is None
    assert any("withdrew" in line for line in done)
    assert_complete(server, tmp_path)


def test_rights_that_were_widened_are_put_right(server, tmp_path):
    run(server, tmp_path)
    for one in server.authorizations.values():
        if one["description"].startswith("skyfuse"):
            one["permissions"] = [
                *one["permissions"],
                {"action": "write", "resource": {"type": "buckets", "id": "0other"}},
            ]
    run(server, tmp_path)
    assert_complete(server, tmp_path)


def test_another_retention_is_reported_and_left(server, tmp_path):
    run(server, tmp_path)
    server.bucket("aq")["retentionRules"][0]["everySeconds"] = 3600
    (line,) = run(server, tmp_path)
    assert "aq is there, but not kept 90 days" in line


def test_what_is_wrong_is_said(server, tmp_path):
    with pytest.raises(InfluxInitError, match=r"400 .*passwords must be"):
        run(server, tmp_path, SKYFUSE_INFLUX_ADMIN_PASSWORD="short")
    run(server, tmp_path)
    with pytest.raises(InfluxInitError, match=r"401 .*operator token \(of SKYFUSE_INFLUX_ADMIN_TOKEN"):
        run(server, tmp_path, SKYFUSE_INFLUX_ADMIN_TOKEN="wrong")
    with pytest.raises(InfluxInitError, match="has been set up before, and its operator token is not known"):
        run(server, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(InfluxInitError, match="no organisation elsewhere"):
        run(server, tmp_path, org="elsewhere")
    server.close()
    with pytest.raises(InfluxInitError, match="cannot be set up"):
        run(server, tmp_path)


def test_the_command_shows_no_secret(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SKYFUSE_INFLUX__URL", server.url)
    shown = CliRunner().invoke(app, ["influx", "init", "--tokens", str(tmp_path)])
    assert shown.exit_code == 0
    assert_complete(server, tmp_path)
    assert "set up the new server: organisation skyfuse, user admin, bucket aq" in shown.output
    assert not any(text(tmp_path, file) in shown.output for file in os.listdir(tmp_path))
    again = CliRunner().invoke(app, ["influx", "init", "--tokens", str(tmp_path)])
    assert again.output.strip() == "everything is as it should be"


# Several set-ups on one server.


def test_set_ups_leave_each_other_alone_for_ever(server, tmp_path):
    """Another bucket; the same one from another folder, as on another machine; in turn, three times."""
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    set_ups = ((first, "aq", None), (second, "air", first), (third, "aq", first))
    tokens = []
    for turn in range(3):
        for folder, bucket, operator in set_ups:
            done = run(server, folder, bucket=bucket, operator=operator and operator / "operator.token")
            assert (done == []) == (turn > 0), (turn, folder, done)
        tokens.append(
            [text(folder, file) for folder, *_ in set_ups for file in ("write.token", "read.token")]
        )
    assert tokens[0] == tokens[1] == tokens[2]
    for folder, bucket, _ in set_ups:
        wanted = {server.bucket(name)["id"] for name in (bucket, f"{bucket}_hourly", f"{bucket}_daily")}
        assert server.rights(text(folder, "write.token")) == {("write", "buckets", id) for id in wanted}
        assert server.rights(text(folder, "read.token")) == {("read", "buckets", id) for id in wanted}
    assert len(server.authorizations) == 7


def test_a_folder_is_for_one_bucket(server, tmp_path):
    run(server, tmp_path)
    kept = text(tmp_path, "write.token")
    with pytest.raises(InfluxInitError, match=r"has the tokens of bucket aq: name another folder .*--tokens"):
        run(server, tmp_path, bucket="air")
    assert text(tmp_path, "write.token") == kept
    assert_complete(server, tmp_path)
    (tmp_path / "setup.json").write_text('{"name":')
    with pytest.raises(InfluxInitError, match=r"setup\.json cannot be read .*: delete it"):
        run(server, tmp_path)


def as_earlier(server, folder):
    """The server and the folder as an earlier version left them."""
    (folder / "setup.json").unlink()
    for one in server.authorizations.values():
        one["description"] = one["description"].partition(", bucket")[0]


def test_tokens_of_an_earlier_version_stay(server, tmp_path):
    run(server, tmp_path / "old")
    as_earlier(server, tmp_path / "old")
    kept = text(tmp_path / "old", "write.token")
    assert run(server, tmp_path / "old") == []
    # Another bucket, and another folder: not theirs, so not touched.
    operator = tmp_path / "old" / "operator.token"
    run(server, tmp_path / "air", bucket="air", operator=operator)
    done = run(server, tmp_path / "new", operator=operator)
    assert sum("left a token of an earlier version" in line for line in done) == 2
    assert run(server, tmp_path / "new", operator=operator) == []
    assert run(server, tmp_path / "old") == []
    assert text(tmp_path / "old", "write.token") == kept
    assert server.rights(kept) == {("write", "buckets", id) for id in ids(server)}


def test_a_token_is_withdrawn_only_when_its_successor_is_on_the_disk(server, tmp_path):
    run(server, tmp_path)
    running = text(tmp_path, "write.token")
    (tmp_path / "write.token").unlink()
    (tmp_path / "write.token").mkdir()  # cannot be replaced by a file
    with pytest.raises(InfluxInitError):
        run(server, tmp_path)
    assert server.rights(running) == {("write", "buckets", id) for id in ids(server)}
    (tmp_path / "write.token").rmdir()
    run(server, tmp_path)
    assert_complete(server, tmp_path)


# Secrets.

POISON = "Z9xSECRETx9Z"


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n\n", "\t"])
def test_a_line_end_is_no_part_of_a_token(server, tmp_path, end):
    run(
        server,
        tmp_path,
        SKYFUSE_INFLUX_ADMIN_TOKEN=POISON + end,
        SKYFUSE_INFLUX_ADMIN_PASSWORD="long enough\n",
    )
    assert ("write", "buckets", None) in server.rights(POISON)
    (user,) = server.users.values()
    assert user["password"] == _hash("long enough")
    for name in ("write.token", "read.token"):
        (tmp_path / name).write_text(text(tmp_path, name) + end)
    (tmp_path / "operator.token").write_text(POISON + end)
    assert run(server, tmp_path) == []


DAMAGE = ["\n" + POISON, "\x00", "\x1b[0m", "\u00e4", "\udcff"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_operator_token_is_said_without_it(server, tmp_path, damage, capfd):
    run(server, tmp_path / "good")
    seen = []
    if "\x00" not in damage:
        with pytest.raises(
            InfluxInitError, match="SKYFUSE_INFLUX_ADMIN_TOKEN, the operator token, is damaged"
        ) as told:
            run(server, tmp_path / "x", SKYFUSE_INFLUX_ADMIN_TOKEN=POISON + damage)
        seen.append(told.value)
    (tmp_path / "given").write_bytes((POISON + damage).encode(errors="surrogateescape"))
    with pytest.raises(InfluxInitError, match=r"given.* is damaged.*: delete it or fill it") as told:
        run(server, tmp_path / "x", operator=tmp_path / "given")
    seen.append(told.value)
    for error in seen:
        assert POISON not in everything_of(error)
    assert POISON not in "".join(capfd.readouterr())
    assert not (tmp_path / "x").exists()


def everything_of(error):
    """The traceback, as Python would show it."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("damage", [*DAMAGE, ""])
def test_a_damaged_token_file_is_replaced(server, tmp_path, damage):
    run(server, tmp_path)
    lost = text(tmp_path, "write.token")
    (tmp_path / "write.token").write_bytes(
        (lost + damage).encode(errors="surrogateescape") if damage else b""
    )
    run(server, tmp_path)
    assert server.rights(lost) is None
    assert_complete(server, tmp_path)


# What is wrong with an address or a token, in the right words.


@pytest.mark.parametrize("url", ["influx:8086", "influx", "//influx:8086", "http://", "http://h:port"])
def test_an_address_without_scheme_is_named(tmp_path, url):
    with pytest.raises(InfluxInitError, match=r"influx\.url = .* is no address: use one such"):
        initialise(url, "o", "b", admin_of({}, tmp_path, "a", None, None), tmp_path)


def test_a_password_in_the_address_is_refused_and_not_shown(tmp_path):
    with pytest.raises(InfluxInitError, match="must not hold a user or password") as told:
        initialise(f"http://me:{POISON}@h:1", "o", "b", admin_of({}, tmp_path, "a", None, None), tmp_path)
    assert POISON not in everything_of(told.value)


def test_https_where_http_is_spoken(server, tmp_path):
    url = server.url.replace("http:", "https:")
    with pytest.raises(InfluxInitError, match="speaks http, not https"):
        initialise(url, "o", "b", admin_of({}, tmp_path, "a", None, None), tmp_path)


def test_http_where_https_is_spoken(tmp_path):
    """What Go's TLS listener, InfluxDB's, says to plain HTTP."""
    words = b"Client sent an HTTP request to an HTTPS server.\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\n" + words)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(InfluxInitError, match=r"400 .*has to begin with https://"):
            initialise(url, "o", "b", admin_of({}, tmp_path, "a", None, None), tmp_path)
        thread.join()


def test_a_narrow_token_is_no_operators(server, tmp_path):
    run(server, tmp_path)
    for name in ("read.token", "write.token"):
        with pytest.raises(
            InfluxInitError, match="is valid there, but may not make buckets and tokens"
        ) as told:
            run(server, tmp_path / "x", operator=tmp_path / name)
        assert "empty its data folder" not in str(told.value)
    # One that sees the organisation, but may no more.
    (org,) = server.orgs
    told = server._authorize(
        org, next(iter(server.users)), "ro", [{"action": "read", "resource": {"type": "orgs"}}], "narrow"
    )
    assert told["token"] == "narrow"
    with pytest.raises(InfluxInitError, match="is valid there, but may not make buckets and tokens"):
        run(server, tmp_path / "x", SKYFUSE_INFLUX_ADMIN_TOKEN="narrow")
