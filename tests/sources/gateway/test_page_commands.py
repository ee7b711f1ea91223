"""The page's commands for connecting a device, run as they stand there against a gateway's HTTP."""

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from settings.sections import HttpSettings
from sources.gateway.http_way import HttpWay
from sources.gateway.keys import KeyRing, StoredKey, changing_keys, digest_of, new_key
from tests.sources.cameras.servers import picture
from tests.sources.gateway.desk import desk

PAGE = Path(__file__).parents[3] / "docs" / "ingest.md"
KEY = new_key()


def commands() -> list[str]:
    """The curl commands of the page's part on devices, behind the line that makes their file, if any.

    A line that ends in a backslash goes on.
    """
    part = PAGE.read_text().partition("### Connect a device")[2].partition("\n### ")[0]
    whole = re.sub(r"\\\n\s*", "", part)
    lines = whole.replace("readings.csv\n    curl", "readings.csv && curl").splitlines()
    return [line.strip() for line in lines if line.startswith(("    curl ", "    printf "))]


def test_there_are_commands_for_readings_and_pictures() -> None:
    assert ["observations" in one for one in commands()] == [True, True, False]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_each_command_of_the_page_is_taken(tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(picture(5))
    file = tmp_path / "keys.toml"
    with changing_keys(file) as keys:
        keys[:] = [StoredKey(name="my-roof", stations=("my-roof",), sha256=digest_of(KEY))]

    async def run() -> None:
        reception, log = desk()
        way = HttpWay(HttpSettings(port=0), reception, reception, KeyRing(file))
        serving = asyncio.create_task(way.serve())
        try:
            await asyncio.wait_for(way.listening.wait(), 60)
            assert way.address is not None
            for command in commands():
                here = command.replace("127.0.0.1:8090", f"127.0.0.1:{way.address[1]}")
                process = await asyncio.create_subprocess_shell(
                    here, cwd=tmp_path, env={"KEY": KEY, "PATH": "/usr/bin:/bin"},
                    stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
                said, _ = await asyncio.wait_for(process.communicate(), 120)
                answer = json.loads(said)
                assert (answer.get("published"), answer.get("refused")) == (1, None), (command, answer)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        assert (len(log.readings), len(log.frames)) == (2, 1)

    asyncio.run(run())
