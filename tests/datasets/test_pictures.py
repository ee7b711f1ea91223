"""A list of frames names pictures of its own folder, and nothing else of the machine."""

import os

import pytest

from datasets.events import FrameRow
from datasets.pictures import inside, read_picture
from datasets.plain import read_plain
from datasets.spool import Spool


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.jpg").write_bytes(b"picture")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link.jpg").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "own.jpg").symlink_to(folder / "images" / "a.jpg")
    (folder / "circle").symlink_to(folder / "circle")
    return folder


@pytest.mark.parametrize("stated", ["images/a.jpg", "images/../images/a.jpg", "own.jpg"])
def test_pictures_of_the_folder(folder, stated):
    file = inside(folder, stated)
    assert not isinstance(file, str)
    assert read_picture(file) == b"picture"


def test_what_lies_outside_is_not_sent(folder):
    outside = (
        "/etc/passwd",
        "../secret",
        "images/../../secret",
        "link.jpg",
        "linked/secret",
        str(folder.parent / "secret"),
    )
    for stated in outside:
        said = inside(folder, stated)
        assert isinstance(said, str)
        assert "outside" in said, stated
    for stated in ("", "nothing.jpg", "images", "circle", "x" * 5000, "a\0b"):
        assert isinstance(inside(folder, stated), str), stated
    rows = [f"a,2026-01-01T00:00:0{n}Z,{path}" for n, path in enumerate((*outside, "images/a.jpg"))]
    (folder / "frames.csv").write_text("\n".join(["station,time,path", *rows]))
    with Spool(2**62) as spool:
        contents = read_plain(folder, spool)
        [frame] = [event.row for event in spool.ordered()]
        assert isinstance(frame, FrameRow)
        assert frame.file == str(folder / "images/a.jpg")
    assert len(contents.problems) == len(outside)
    assert all("outside" in problem.what for problem in contents.problems)


def test_a_files_size_is_looked_at_before_it_is_read(folder):
    huge = folder / "huge.jpg"
    with huge.open("wb") as handle:
        handle.truncate(2**40)  # a hole: reading it whole would end this test, and the machine
    with pytest.raises(OSError, match="more than the broker takes"):
        read_picture(huge)
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="no plain file"):
        read_picture(folder / "pipe")
