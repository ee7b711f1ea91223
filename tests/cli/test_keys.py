"""`skyfuse keys`: shown once, kept as a digest, beside the gateway's."""

import pytest
from typer.testing import CliRunner

from cli.main import app
from sources.gateway.keys import KeyRing

RUN = CliRunner()


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path))
    return tmp_path / "gateway" / "keys.toml"


def test_a_key_is_made_listed_and_withdrawn_beside_the_gateway_s(file):
    assert RUN.invoke(app, ["gateway", "keys", "add", "roof", "--station", "roof"]).exit_code == 0
    made = RUN.invoke(app, ["keys", "create", "wall", "--scope", "frames", "--scope", "read"])
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert secret not in file.read_text()
    found = KeyRing(file).shown(secret)
    assert found is not None
    assert found.scopes == ("read", "frames")
    holder = KeyRing(file).holder(secret)
    assert holder is not None
    assert not holder.covers("roof"), "it reads, and sends for no station"
    listed = RUN.invoke(app, ["keys", "list"]).stdout
    assert listed == "wall: read, frames\n"
    assert "wall: no station; scopes read, frames" in RUN.invoke(app, ["gateway", "keys", "list"]).stdout
    assert RUN.invoke(app, ["keys", "revoke", "roof"]).exit_code != 0, "that one is the gateway's"
    assert RUN.invoke(app, ["keys", "revoke", "wall"]).exit_code == 0
    assert KeyRing(file).shown(secret) is None
    assert "roof" in file.read_text()


@pytest.mark.parametrize("scopes", [["--scope", "all"], []])
def test_a_scope_that_is_none_is_refused(file, scopes):
    assert RUN.invoke(app, ["keys", "create", "wall", *scopes]).exit_code == 2
    assert not file.exists()


@pytest.mark.usefixtures("file")
def test_a_name_is_given_once():
    assert RUN.invoke(app, ["keys", "create", "wall", "--scope", "read"]).exit_code == 0
    assert RUN.invoke(app, ["keys", "create", "wall", "--scope", "admin"]).exit_code != 0
