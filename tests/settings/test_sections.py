"""Settings: a slip is named with the word that was meant, its file and its line; no secret is shown."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from typer.testing import CliRunner

from agents.builders import retention_of
from cli import main as cli
from infra.connect import environment
from schemas.times import DAY_MS, HOUR_MS
from settings.errors import SettingsError
from settings.in_force import in_force, origins, page
from settings.sections import KafkaSettings, RetentionSettings, Settings
from settings.spelling import leaves, unknown_variables, variable
from settings.values import FOREVER
from sinks.retention import Retention

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SKYFUSE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SKYFUSE_KAFKA_BOOTSTRAP", "SKYFUSE_KAFKA__BOOTSTRAP"),
        ("SKYFUSE_KAFKA__BOOTSTRP", "SKYFUSE_KAFKA__BOOTSTRAP"),
        ("SKYFUSE_BOOTSTRAP", "SKYFUSE_KAFKA__BOOTSTRAP"),
        ("SKYFUSE_DATADIR", "SKYFUSE_DATA_DIR"),
        ("SKYFUSE_INFLUXDB_URL", "SKYFUSE_INFLUX__URL"),
        ("SKYFUSE_CONFG", "SKYFUSE_CONFIG"),
        ("skyfuse_window_size", "SKYFUSE_WINDOW__SIZE"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_likely_one(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(SettingsError, match=f"^environment: {name} is no setting; did you mean {meant}\\?$"):
        Settings()


def test_each_setting_may_lose_an_underscore_and_is_still_known() -> None:
    for path, _ in leaves(Settings):
        right = variable(path)
        slip = right.removeprefix("SKYFUSE_").replace("_", "")
        if "_" in right.removeprefix("SKYFUSE_"):
            (found,) = unknown_variables(Settings, {f"SKYFUSE_{slip}": "1"})
            assert found.likely == right
        for short in (right.replace("__", "_"), "_".join(right.rsplit("__", 1))):
            if short != right:
                (found,) = unknown_variables(Settings, {short: "1"})
                assert found.likely == right
        assert unknown_variables(Settings, {right: "1", right.lower(): "1"}) == []


def test_what_others_put_into_the_environment_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    kubernetes = [
        "SKYFUSE_SERVICE_HOST", "SKYFUSE_SERVICE_PORT", "SKYFUSE_PORT", "SKYFUSE_PORT_9092_TCP",
        "SKYFUSE_KAFKA_PORT", "SKYFUSE_KAFKA_PORT_9092_TCP_ADDR", "SKYFUSE_KAFKA_SERVICE_PORT_CLIENTS",
    ]  # fmt: skip
    for name in [*kubernetes, "SKYFUSE_IMAGE", "SKYFUSE_GRAFANA_INFLUX_URL", "SKYFUSE_INFLUX_ADMIN_TOKEN"]:
        monkeypatch.setenv(name, "tcp://10.0.0.1:9092")
    Settings()
    assert unknown_variables(Settings, dict.fromkeys(kubernetes, "tcp://10.0.0.1:9092")) == []
    (mentioned,) = unknown_variables(Settings, {"SKYFUSE_IMAGE": "", "SKYFUSE_GRAFANA_INFLUX_URL": ""})
    assert str(mentioned) == "SKYFUSE_IMAGE is no setting; `skyfuse config` lists all of them"


def test_a_file_that_is_named_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Settings()  # one that is not named may be missing
    monkeypatch.setenv("SKYFUSE_CONFIG", "nosuch.toml")
    with pytest.raises(SettingsError, match=r"^SKYFUSE_CONFIG names nosuch.toml, and there is no such file"):
        Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kafka]\nbootstrap = broker:9092\n", "line 2: this is no TOML: Invalid value; text needs quotes"),
        ("[kafka]\npartitions 4\n", "line 2: this is no TOML: Expected '='"),
        ('[kafka]\nbootstrp = "x"\n', ": kafka.bootstrp is no setting; did you mean kafka.bootstrap?"),
        ('datadir = "x"\n', ": datadir is no setting; did you mean data_dir?"),
        ('bootstrap = "x"\n', ": bootstrap is no setting; did you mean kafka.bootstrap?"),
        ('[kafak]\nbootstrap = "x"\n', ": [kafak] is no setting; did you mean [kafka]?"),
        ("a = 1\nb = 2\n", ": a is no setting; `skyfuse config` lists all of them (and 1 more)"),
    ],
)  # fmt: skip
def test_a_slip_in_the_file_is_one_sentence(text: str, said: str) -> None:
    Path("skyfuse.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        Settings()
    assert str(caught.value).startswith("skyfuse.toml")
    assert str(caught.value).removeprefix("skyfuse.toml").lstrip(", ").startswith(said)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_one_sentence() -> None:
    Path("skyfuse.toml").write_bytes(b'data_dir = "\xe9"')
    with pytest.raises(SettingsError, match=r"^skyfuse.toml is not UTF-8 text"):
        Settings()


def test_a_wrong_value_names_who_gave_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["skyfuse", "config"])
    Path("skyfuse.toml").write_text("[kafka]\npartitions = 0\n")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "skyfuse: settings, skyfuse.toml: kafka.partitions: " in capsys.readouterr().err
    monkeypatch.setenv("SKYFUSE_KAFKA__PARTITIONS", "none")
    with pytest.raises(SystemExit):
        cli.main()
    assert "skyfuse: settings, SKYFUSE_KAFKA__PARTITIONS: kafka.partitions: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("SKYFUSE_KAFKA", '{"name": "value"}'),
        ("SKYFUSE_GATEWAY__ADMIT", '["one", "another"]'),
        ("skyfuse_gateway__codecs", '{"name": "value"}'),
        ("SKYFUSE_GATEWAY__MQTT__TOPICS", '["one", "another"]'),
    ],
)
def test_what_has_to_be_json_and_is_none_is_one_sentence(
    name: str, example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["skyfuse", "config"])
    monkeypatch.setenv(name, "hidden3")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told == f"skyfuse: settings: {name} is to be written in JSON, as in {example}\n"


def test_config_shows_what_is_in_force_and_from_where(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("skyfuse.toml").write_text(
        '[window]\nsize = "5m"\ngrace = "1m"\n[redis]\nurl = "redis://:hidden1%2F@c/0"\n'
    )
    monkeypatch.setenv("SKYFUSE_WINDOW__GRACE", "7")
    monkeypatch.setenv("SKYFUSE_KAFKA", '{"partitions": 9}')
    monkeypatch.setenv("SKYFUSE_KAFKA__SASL_PASSWORD", "hidden2")
    found = {one.name: (one.value, one.origin) for one in in_force(Settings())}
    assert found["window.size"] == ("300s", "skyfuse.toml")
    assert found["window.grace"] == ("7s", "SKYFUSE_WINDOW__GRACE")
    assert found["window.disorder"] == ("2s", "default")
    assert found["kafka.partitions"] == ("9", "SKYFUSE_KAFKA")
    assert found["kafka.replication"] == ("1", "default")
    told = CliRunner().invoke(cli.app, ["config"])
    assert told.exit_code == 0
    assert "hidden" not in told.output
    assert "kafka.sasl_password" in told.output
    assert "redis://(not shown)@c/0" in told.output


def test_the_page_is_fresh_and_has_every_setting() -> None:
    assert PAGE.read_text() == page(), "stale: python -m settings.in_force > docs/settings.md"
    for path, field in leaves(Settings):
        assert f"`{variable(path)}`" in page()
        assert not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))


def test_how_long_the_store_keeps_what(monkeypatch: pytest.MonkeyPatch) -> None:
    assert retention_of(Settings().retention) == Retention(7 * DAY_MS, 365 * DAY_MS, None)
    monkeypatch.setenv("SKYFUSE_RETENTION__WINDOWS", "36h")
    monkeypatch.setenv("SKYFUSE_RETENTION__HOURS", "90d")
    monkeypatch.setenv("SKYFUSE_RETENTION__DAYS", "1000d")
    assert retention_of(Settings().retention) == Retention(36 * HOUR_MS, 90 * DAY_MS, 1000 * DAY_MS)
    monkeypatch.setenv("SKYFUSE_RETENTION__DAYS", "80d")
    with pytest.raises(ValidationError, match="none may be kept shorter than the one before it"):
        Settings()
    monkeypatch.setenv("SKYFUSE_RETENTION__WINDOWS", "23h")
    with pytest.raises(ValidationError, match="shorter than a day"):
        Settings()


def test_a_child_process_keeps_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay's workers keep all windows, whatever the environment of `up` says."""
    monkeypatch.setenv("SKYFUSE_RETENTION__WINDOWS", "2d")
    kept = RetentionSettings(windows=FOREVER, hours=FOREVER)
    for name, value in environment(Settings().model_copy(update={"retention": kept})).items():
        monkeypatch.setenv(name, value)
    assert retention_of(Settings().retention) == Retention()


def test_each_broker_has_a_port() -> None:
    def read(text: str) -> str | None:
        return Settings(kafka=KafkaSettings(bootstrap=text)).kafka.bootstrap

    assert read("a:1, b.example ,[::1]:65535") == "a:1,b.example:9092,[::1]:65535"
    for wrong in ("", "a:1,", "a:x", "a:0", "a:65536", "kafka://a:1", "a b:1", ":9092", "::1:9092"):
        with pytest.raises(ValueError, match=r"is no host:port, such as broker-1:9092"):
            read(wrong)


def test_config_writes_values_as_the_file_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFUSE_GATEWAY__KEEP_ORIGINALS", "true")
    monkeypatch.setenv("SKYFUSE_GATEWAY__ADMIT", '["school-*"]')
    monkeypatch.setenv("SKYFUSE_GATEWAY__CODECS", '{"em500": "em500.js"}')
    found = {one.name: one.value for one in in_force(Settings())}
    assert found["gateway.keep_originals"] == "true"
    assert found["gateway.admit"] == '["school-*"]'
    assert found["gateway.codecs"] == '{"em500": "em500.js"}'


def test_a_section_may_be_given_as_json_and_a_single_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not unknown_variables(Settings, {"SKYFUSE_KAFKA": "{}", "SKYFUSE_WINDOW": "{}"})
    monkeypatch.setenv("SKYFUSE_KAFKA", '{"partitions": 9, "replication": 2}')
    monkeypatch.setenv("SKYFUSE_KAFKA__PARTITIONS", "3")
    found = {one.name: (one.value, one.origin) for one in in_force(Settings())}
    assert found["kafka.partitions"] == ("3", "SKYFUSE_KAFKA__PARTITIONS")
    assert found["kafka.replication"] == ("2", "SKYFUSE_KAFKA")


def test_a_folder_is_no_settings_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "skyfuse.toml"
    folder.mkdir()
    with pytest.raises(SettingsError, match=r"skyfuse\.toml, here, is a folder"):
        Settings()
    monkeypatch.setenv("SKYFUSE_CONFIG", str(folder))
    with pytest.raises(SettingsError, match="named by SKYFUSE_CONFIG, is a folder"):
        Settings()


def test_what_is_wrong_with_a_section_is_laid_to_all_that_set_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert origins(("retention",)) == "default"
    (tmp_path / "skyfuse.toml").write_text('[retention]\nhours = "1d"\n')
    monkeypatch.setenv("SKYFUSE_RETENTION__WINDOWS", "forever")
    assert origins(("retention",)) == "SKYFUSE_RETENTION__WINDOWS and skyfuse.toml"
    assert origins(("retention", "hours")) == "skyfuse.toml"
