"""`skyfuse gateway keys`: a key is shown once, and its file holds none."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.gateway import app
from settings.sections import Settings
from sources.gateway.errors import KeyFileError
from sources.gateway.keys import KeyRing


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["keys", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_a_key_is_made_listed_and_taken_out() -> None:
    code, output = run("add", "roof", "--station", "my-roof", "--station", "north-*")
    key = output.splitlines()[0]
    assert code == 0
    found = KeyRing(Settings().keys_path).holder(key)
    assert found is not None
    assert (found.covers("north-7"), found.covers("yours")) == (True, False)
    assert key not in Settings().keys_path.read_text()
    run("add", "open", "--station", "airgradient-84fce602549c", "--without-key")
    run("add", "signer", "--station", "*", "--signed")
    assert run("list")[1].splitlines() == [
        "roof: my-roof, north-*",
        "open: airgradient-84fce602549c without a key",
        "signer: *, signed",
    ]
    with pytest.raises(KeyFileError, match="already"):
        run("add", "roof", "--station", "a")
    run("remove", "roof")
    assert KeyRing(Settings().keys_path).holder(key) is None
    with pytest.raises(KeyFileError, match="no key roof"):
        run("remove", "roof")


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "a/b", "--station", "x"),
        ("add", "a"),
        ("add", "a", "--station", "*x"),
        ("add", "a", "--station", "x", "--signed", "--without-key"),
    ],
)
def test_wrong_use_is_told_and_changes_nothing(arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2
    assert not Settings().keys_path.exists()
