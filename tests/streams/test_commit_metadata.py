"""All that commit numbers in the metadata read them alike."""

from collections.abc import Callable

import pytest

from fusion.together.meeting import MeetingStand
from streams.errors import CommitMetadataError
from streams.join import Settled

READERS: list[Callable[[int, str], object]] = [Settled.parse, MeetingStand.parse]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("version", ["2", "0", '"1"', "null"])
def test_another_version_is_refused_by_its_number(read: Callable[[int, str], object], version: str) -> None:
    text = f'{{"v": {version}, "wm": 1, "pos": 1, "done": 1, "marks": {{"0": 1}}}}'
    with pytest.raises(CommitMetadataError, match=r"metadata version \w+ is not known"):
        read(7, text)
    read(7, text.replace(version, "1", 1))  # it is the version alone


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "text",
    ["not json", "[]", "1", "{}", '{"v": 1}', '{"v": 1, "wm": 1e999, "pos": 1e999, "done": 0, "marks": {}}',
     '{"v": 1, "wm": 1, "pos": "x", "done": 0, "marks": {}}'],
)  # fmt: skip
def test_what_is_no_stand_is_refused(read: Callable[[int, str], object], text: str) -> None:
    with pytest.raises(CommitMetadataError, match="unreadable commit metadata"):
        read(7, text)


def test_what_is_written_is_read_and_so_is_what_earlier_versions_wrote() -> None:
    settled = Settled(7, 500, 9, 480)
    assert Settled.parse(7, settled.metadata()) == settled
    assert Settled.parse(7, '{"v": 1, "wm": 500, "pos": 9, "done": 480}') == settled
    stand = MeetingStand(7, 9, 480, {0: 500, 11: 490})
    assert MeetingStand.parse(7, stand.metadata()) == stand
    # A tool that knows one of the two reads the other's: the names are the same.
    assert Settled.parse(7, stand.metadata()) == Settled(7, 480, 9, 480)
