"""The files of a new adapter: a module that works, and a payload that shows it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from cli.errors import ScaffoldError
from sources.adapters import adapters

NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_MODULE: Final = '''"""{title}: what it is, in a line."""

from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import Field
from sources.adapters.core.tray import Tray


def _read(payload: Node, tray: Tray) -> None:
    device = tray.device(payload["id"].text(), "{name}-")  # its serial number, with the maker before it
    tray.fact(device, "firmware", payload["firmware"])
    tray.fact(device, "battery_percent", payload["battery"])
    tray.draft(device, payload["time"]).fields(payload)  # without a time: that of arrival


ADAPTER: Final = Adapter(
    name="{name}",
    title="{title}",
    versions="which firmware or API this was written from, and how others differ",
    arrives="POST /v1/ingest/{name}, MQTT topic or file: how such payloads come",
    read=_read,
    # What a number is: parameter, unit, and where there are several scalings or twins, the channel.
    fields={{
        "pm25": Field("pm25", "ug/m3"),
        "temp": Field("temperature", "Cel", missing=(-127.0,)),
    }},
    # Parts that are known and are no reading, and what they are. Everything else is refused by name.
    others={{"rssi": "reception"}},
    period_s=60,  # seconds that a value stands for; leave it out where nobody knows
    stamp="ends",  # whether its times begin or end that period
    naive="utc",  # zone of times that state none: utc, station, or a fixed one
    time_source="device",  # whose clock its times are of
    correction="none",
)
'''
_PAYLOAD: Final = """{
 "id": "4711",
 "time": "2026-08-21T10:00:00Z",
 "firmware": "1.2",
 "battery": 87,
 "pm25": 12.5,
 "temp": 21.4,
 "rssi": -67
}
"""
_TOLD: Final = (
    'of = "made up by skyfuse adapters new: put a real payload in its place, without names of people"\n'
)


def new_adapter(root: Path, name: str) -> list[Path]:
    """Write the files of an adapter into a checkout; gives them. Raises ScaffoldError."""
    golden = root / "tests" / "sources" / "adapters" / "golden"
    if not golden.is_dir():
        raise ScaffoldError(f"{root} is no checkout with tests: run it as ./skyfuse adapters new {name}")
    if not NAME.fullmatch(name):
        raise ScaffoldError(f"{name!r} is no name: small letters and digits, parted by single dashes")
    module = root / "sources" / "adapters" / f"{name.replace('-', '_')}.py"
    if name in adapters() or module.exists() or name == "core" or (golden / name).exists():
        raise ScaffoldError(f"there is an adapter {name}, or something of its name; nothing was written")
    files = {
        module: _MODULE.format(name=name, title=name.replace("-", " ").capitalize()),
        golden / name / "first.json": _PAYLOAD,
        golden / name / "first.toml": _TOLD,
    }
    (golden / name).mkdir()
    for file, text in files.items():
        file.write_text(text)
    # What comes of the payload, and the table of docs/ingest.md: the tests of this checkout write them.
    environment = os.environ | {"PYTHONPATH": str(root)}
    for command in (["tests.sources.adapters.golden", name], ["tests.sources.adapters.test_page"]):
        ran = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=root,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        if ran.returncode:
            raise ScaffoldError(f"python -m {' '.join(command)} failed: {ran.stderr.strip()[-400:]}")
    return [*files, golden / name / "first.expected"]
