"""The API against its own document: asked for what it does not expect, it answers as the document says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from schemas.station import Camera, Station
from tests.samples import T0, estimate, index, measured
from tests.web.serving import served

ROOT = Path(__file__).parents[2]
#: It does not end: tests/web/test_api.py has it.
ENDLESS = "/api/v1/stream"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    past = [estimate("a", T0 + 60 * n, 1, {"pm25": measured(9.0 + n)}, (index(40),)) for n in range(1, 6)]
    stations = [Station(station="a", cameras=(Camera(camera="main"),))]
    folder = tmp_path_factory.mktemp("document")
    with served(
        folder, past, stations, now=T0 + 400.0, anonymous=("read", "frames", "write", "admin")
    ) as made:
        yield made


def test_no_answer_is_undocumented_and_none_is_a_fault(shown):
    schema = schemathesis.openapi.from_url(f"{shown.url}/api/v1/openapi.json")
    tried = 0
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]
        if operation.path == ENDLESS:
            continue
        tried += 1

        @given(case=operation.as_strategy())
        @hypothesis_settings(
            max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        def ask(case):
            # The document cannot say that a text is a time there is, nor that one time is before another.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        ask()
    assert tried >= 26


def test_every_answer_and_every_body_has_an_example_that_its_own_schema_takes(shown):
    document = shown.json("/api/v1/openapi.json")
    checked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], path
            assert {"401", "403", "422", "429"} <= operation["responses"].keys(), path
            for answer in (*operation["responses"].values(), operation.get("requestBody", {})):
                for media, content in answer.get("content", {}).items():
                    if media.startswith("image/"):
                        continue
                    name = method, path, media
                    schema = content["schema"] | {"components": document["components"]}
                    jsonschema.Draft202012Validator(schema).validate(content["example"])
                    checked += 1
                    assert content["example"], name
    assert checked > 150


def test_ruff_s_security_rules_find_nothing():
    command = [sys.executable, "-m", "ruff", "check", "--select", "S", "--no-cache", "web"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
