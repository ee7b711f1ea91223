"""compose.yaml against the compose specification, and against what the rest of the repository expects."""

import re
import subprocess
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from settings.sections import Settings
from settings.spelling import leaves, variable

ROOT = Path(__file__).parents[2]
FILE = ROOT / "infra" / "compose.yaml"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file as compose reads it: anchors merged, variables replaced by their defaults."""
    text = re.sub(r"(?<!\$)\$\{[A-Z_]+:-([^}]*)\}", r"\1", FILE.read_text())
    merged: dict[str, Any] = yaml.safe_load(text)
    return merged


def test_it_follows_the_compose_specification(compose):
    plain = {key: value for key, value in compose.items() if not key.startswith("x-")}
    parsed = compose_spec.PyCompose.from_yaml(yaml.safe_dump(plain))
    parsed.validate()
    assert set(parsed.service_names()) == set(compose["services"])


def test_a_mistake_would_be_noticed(compose):
    plain = {key: value for key, value in compose.items() if not key.startswith("x-")}
    plain["services"] = plain["services"] | {"kafka": {"image": "apache/kafka", "imagine": True}}
    with pytest.raises(Exception, match="imagine"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(plain))


def test_dependencies_volumes_and_configs_exist(compose):
    services = compose["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (FILE.parent / source).exists(), volume
        for config in service.get("configs", []):
            assert config["source"] in compose["configs"]


def test_settings_are_ones_that_skyfuse_knows(compose):
    """An unknown SKYFUSE_ variable would be an error at start, or be ignored."""
    known = {variable(path) for path, _ in leaves(Settings)}
    for service in compose["services"].values():
        for name in service.get("environment", {}):
            if name.startswith("SKYFUSE_") and not name.startswith(
                ("SKYFUSE_GRAFANA", "SKYFUSE_INFLUX_ADMIN")
            ):
                assert name in known, name


def test_workers_run_commands_that_exist(compose):
    known = {
        command.name or command.callback.__name__.replace("_command", "")
        for command in app.registered_commands
        if command.callback
    }
    known |= {group.name for group in app.registered_groups if group.name}
    for name, service in compose["services"].items():
        if service.get("image") != "skyfuse":
            continue
        text = " ".join(service["command"])
        command = re.search(r"(?:skyfuse )?(\w+)", text.partition("exec ")[2] or text)
        assert command, name
        assert command[1] in known, name


def test_grafana_gets_every_variable_that_its_provisioning_asks_for(compose):
    grafana = compose["services"]["grafana"]
    given = set(grafana["environment"]) | set(re.findall(r"(SKYFUSE_\w+)=", " ".join(grafana["command"])))
    text = (FILE.parent / "grafana/provisioning/datasources/skyfuse.yaml").read_text()
    assert set(re.findall(r"\$(\w+)", text)) <= given
    board = yaml.safe_load((FILE.parent / "grafana/provisioning/dashboards/skyfuse.yaml").read_text())
    (provider,) = board["providers"]
    assert any(volume.split(":")[1] == provider["options"]["path"] for volume in grafana["volumes"])


def test_secrets_reach_only_those_who_need_them(compose):
    """The operator's: who sets InfluxDB up. The narrow tokens: who writes, and who reads."""
    mounts = {
        name: {volume.split(":")[0] for volume in service.get("volumes", [])}
        for name, service in compose["services"].items()
    }
    assert [name for name, names in mounts.items() if "operator" in names] == ["buckets"]
    assert {name for name, names in mounts.items() if "tokens" in names} == {"buckets", "sink", "grafana"}
    assert "change-me" not in FILE.read_text()


def test_influx_init_gets_options_that_it_knows_and_folders_that_are_mounted(compose):
    """One way of setting InfluxDB up, not two."""
    buckets = compose["services"]["buckets"]
    options = dict(word.split("=") for word in buckets["command"][2:])
    shown = CliRunner().invoke(app, ["influx", "init", "--help"], env={"COLUMNS": "200"}).output
    assert all(option in shown for option in options)
    folders = {volume.split(":")[1] for volume in buckets["volumes"]}
    made = (FILE.parent / "Dockerfile").read_text()
    for path in options.values():
        (folder,) = [folder for folder in folders if path == folder or path.startswith(folder + "/")]
        assert f" {folder}" in made
    assert not any("INIT" in name for name in compose["services"]["influxdb"].get("environment", {}))


def test_prometheus_scrapes_every_worker(compose):
    config = yaml.safe_load(compose["configs"]["prometheus"]["content"])
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "skyfuse"
    workers = {
        name for name, s in compose["services"].items() if "--web-port" in " ".join(s.get("command", []))
    }
    optional = {name for name in workers if "profiles" in compose["services"][name]}
    assert {target.split(":")[0] for target in job["static_configs"][0]["targets"]} == workers - optional
    (asked,) = job["dns_sd_configs"]
    assert (set(asked["names"]), asked["type"], asked["port"]) == (optional, "A", 6066)
    for name in workers:
        # Another container asks: 127.0.0.1, the default, would answer nobody.
        assert "--web-host 0.0.0.0 --web-port 6066" in " ".join(compose["services"][name]["command"]), name


def test_the_sink_reads_the_file_that_init_writes(compose):
    """A file, not a variable: it is read again when InfluxDB refuses the token."""
    (name,) = {
        compose["services"][one]["environment"]["SKYFUSE_INFLUX__TOKEN_FILE"] for one in ("buckets", "sink")
    }
    mounted = {volume.split(":")[0]: volume for volume in compose["services"]["sink"]["volumes"]}
    assert mounted["tokens"] == f"tokens:{Path(name).parent}:ro"
    assert "SKYFUSE_INFLUX__TOKEN=" not in FILE.read_text()


def test_secrets_get_neither_into_the_image_nor_into_git(tmp_path):
    """`.env` holds passwords and lies beside compose.yaml, or in the checkout's root."""
    ignored = (FILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    assert {"**/.env", "**/.env.*", "**/*.token", "**/admin.password"} <= set(ignored)
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in (".env", "infra/.env", ".env.local", "tokens/write.token", "tokens/admin.password"):
        found = subprocess.run(["git", "-C", tmp_path, "check-ignore", "-q", name], check=False)
        assert found.returncode == 0, name
