"""The file of what a gateway fetches by itself: read, or refused in one sentence without a secret."""

import re
import textwrap
from pathlib import Path

import pytest

from datasets.errors import SourceError
from sources.entries import read_entries

_GOOD = """
[[camera]]
station = "roof"
snapshot = "http://192.168.1.20/shot.jpg"
local = true
username = "viewer"
password_file = "PASSWORD"
every = "2m"
crop = [0, 0.1, 1, 0.7]

[[folder]]
path = "/srv/portal"
adapter = "cpcb"
station = "delhi-7"

[[pull]]
name = "openaq"
url = "https://api.openaq.org/v3/sensors/1/measurements?datetime_from={since}&datetime_to={until}"
adapter = "openaq"
headers = { X-API-Key = "hunter2" }
"""


def _read(tmp_path: Path, text: str) -> object:
    file = tmp_path / "sources.toml"
    file.write_text(text)
    return read_entries(file)


def test_a_good_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter3\n")
    file = tmp_path / "sources.toml"
    file.write_text(_GOOD.replace("PASSWORD", str(secret)))
    entries = read_entries(file)
    [camera], [folder], [pull] = entries.camera, entries.folder, entries.pull
    assert camera.credentials() == ("viewer", "hunter3")
    assert camera.area is not None
    assert camera.area.top == 0.1
    assert (folder.adapter, folder.station) == ("cpcb", "delhi-7")
    assert pull.of_times
    assert "hunter" not in repr(entries)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("[[camera]\n", "no TOML"),
        ("[[camera]]\nstation='a'\n", "needs one of snapshot, mjpeg, stream, folder"),
        ("[[camera]]\nstation='a'\nsnapshot='http://a/'\nmjpeg='http://a/'\n", "snapshot and mjpeg"),
        ("[[camera]]\nstation='a'\nsnapshot='file:///etc/passwd'\n", "http:// or https://"),
        ("[[camera]]\nstation='a'\nstream='rtsp://a/'\n", "local = true"),
        ("[[camera]]\nstation='a'\nsnapshot='http://me:hunter2@a/'\n", "password_file"),
        (
            "[[camera]]\nstation='a'\nsnapshot='http://a/'\nevry='1m'\n",
            "camera[1].evry: there is no such name",
        ),
        ("[[camera]]\nstation='a'\nsnapshot='http://a/'\nevery='0.1s'\n", "shorter than a second"),
        ("[[camera]]\nstation='a'\nsnapshot='http://a/'\npassword='hunter2'\n", "without a username"),
        ("[[camera]]\nstation='a'\nsnapshot='http://a/'\ncrop=[0,0.9,1,0.2]\n", "crop is"),
        ("[[camera]]\nstation='a'\nsnapshot='http://a/'\nlatitude=1.0\n", "belong together"),
        ("[[camera]]\nstation='a'\nsnapshot='http://a/'\n" * 2, "two entries [[camera]] of a/main"),
        ("[[folder]]\npath='/a'\nadapter='nobody'\n", "no adapter"),
        ("[[folder]]\npath='/a'\nadapter='cpcb'\n[[folder]]\npath='/a/b'\nadapter='cpcb'\n", "overlap"),
        ("[[folder]]\npath='/a'\nadapter='cpcb'\nzone='Europe/Milan'\n", "no IANA time zone"),
        ("[[pull]]\nname='x'\nurl='http://a/{until}'\nadapter='openaq'\n", "needs {since}"),
        (
            "[[pull]]\nname='x'\nurl='http://a/'\nadapter='openaq'\nheaders={'X-K'=\"hunter2\\n\"}\n",
            "printable",
        ),
    ],
)
def test_a_wrong_one_is_refused_with_the_place(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        _read(tmp_path, wrong)
    assert said in str(caught.value)
    assert "sources.toml" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_examples_of_the_page_are_right(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ingest.md").read_text()
    blocks = re.findall(r"(?:^    \[\[\w+\]\]\n(?:^    .+\n|^\n(?=    \S))+)", page, re.MULTILINE)
    assert len(blocks) >= 3
    file = tmp_path / "sources.toml"
    file.write_text("\n".join(textwrap.dedent(block) for block in blocks))
    entries = read_entries(file)
    assert entries.camera
    assert entries.folder
    assert len(entries.pull) == 2
