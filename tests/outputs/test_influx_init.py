"""`skyfuse influx init` against a stand-in for the API (no InfluxDB 2 runs here; docs/outputs.md)."""

import os

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.influx import admin_of, initialise
from infra.errors import InfluxInitError
from tests.outputs.influx2 import Influx2, _hash


@pytest.fixture
def server():
    one = Influx2()
    yield one
    one.close()


def run(server, folder, org="skyfuse", **environment):
    return initialise(server.url, org, "aq", admin_of(environment, folder, "admin", None, None), folder)


def text(folder, name):
    return (folder / name).read_text()


def ids(server):
    return {server.bucket(name)["id"] for name in ("aq", "aq_hourly", "aq_daily")}


def assert_complete(server, folder):
    kept = {
        name: server.bucket(name)["retentionRules"][0]["everySeconds"] / 86_400
        for name in ("aq", "aq_hourly", "aq_daily")
    }
    assert kept == {"aq": 90, "aq_hourly": 1830, "aq_daily": 0}
    assert sorted(one["description"] for one in server.authorizations.values()) == [
        "admin's Token",
        "skyfuse: read (Grafana)",
        "skyfuse: write",
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
    assert files == ["admin.password", "operator.token", "read.token", "write.token"]
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
    assert sorted(os.listdir(tmp_path)) == ["read.token", "write.token"]
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
