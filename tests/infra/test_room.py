"""A disk that fills up is told before it is full, once, and again when there is room."""

from pathlib import Path

import pytest

from infra.room import LEAST, LOW, Rooms, free_space, there

GIB = 1 << 30


def test_a_disk_that_fills_up_is_told_once_at_each_threshold(tmp_path: Path) -> None:
    free = 3 * GIB
    asked: list[Path] = []

    def probe(path: Path) -> int:
        asked.append(path)
        return free

    # Folders of one disk; the second is not there yet.
    rooms = Rooms([tmp_path, tmp_path / "later" / "store"], probe)

    def after(count: int) -> str:
        nonlocal free
        free = count
        return "; ".join(rooms.news())

    assert rooms.news() == []
    assert set(asked) == {tmp_path}
    assert "nearly full (2.0 GiB free)" in after(LOW - 1)
    assert after(LOW - GIB // 2) == ""
    assert after(LOW + 1) == ""  # at the edge it is not told again and again
    assert after(LOW - 1) == ""
    assert "is full (256 MiB free)" in after(LEAST - 1)
    assert after(LEAST + 1) == ""
    assert "there is room again" in after(LOW - 1)
    assert "there is room again" in after(3 * GIB)
    assert "is full (0 MiB free)" in after(0)


def test_a_folder_that_is_removed_meanwhile_is_no_error(tmp_path: Path) -> None:
    def gone(_: Path) -> int:
        raise FileNotFoundError

    assert Rooms([tmp_path], gone).news() == []


def test_what_is_free_is_asked_where_a_folder_will_lie(tmp_path: Path) -> None:
    assert there(tmp_path / "a" / "b") == tmp_path
    assert free_space(tmp_path / "a" / "b") == pytest.approx(free_space(tmp_path), rel=0.1)
