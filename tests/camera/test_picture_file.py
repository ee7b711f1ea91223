"""What is told of a picture's file by its bytes alone."""

import pytest

from camera.picture_file import may_show


@pytest.mark.parametrize(
    ("data", "shows"),
    [
        (b"", False),
        (b"<html>\n<p>offline</p></html>", False),
        ("कैमरा बंद है".encode(), False),
        (b"aGVsbG8=" * 257, True),
        (b"\xff\xd8\xff\xe0", True),
        (b"BM\x00\x00\x00\x00", True),
        (b"II*\x00abc", True),
    ],
)
def test_all_but_a_short_text_may_show_something(data: bytes, shows: bool) -> None:
    assert may_show(data) is shows
