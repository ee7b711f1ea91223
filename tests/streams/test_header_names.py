"""Header names that are no UTF-8, through both client libraries as skyfuse has set them up."""

from typing import Any

import pytest
from aiokafka.consumer import fetcher
from kafka.record import MemoryRecordsBuilder
from kafka.record import memory_records as of_kafka_python

from streams.header_names import read_any_name


class Raw(str):
    """A name of other bytes than its letters'."""

    def encode(self, *_: object) -> bytes:
        return b"caf\xe9"


def batches(names: list[str], codec: int) -> bytes:
    """Two batches; records with those header names, one each."""
    data = b""
    for first in (0, len(names)):
        builder = MemoryRecordsBuilder(magic=2, compression_type=codec, batch_size=2**20, offset=first)
        for place, name in enumerate(names):
            builder.append(
                timestamp=7, key=b"k", value=b"v%d" % place, headers=[("good", b"1"), (name, None)]
            )
        builder.close()
        data += bytes(builder.buffer())
    return data


def read(records: Any) -> list[tuple[int, bytes, list[tuple[str, bytes | None]]]]:
    found = []
    while records.has_next():
        batch = records.next_batch()
        assert batch.validate_crc()
        found += [(one.offset, one.value, list(one.headers)) for one in batch]
    return found


@pytest.mark.parametrize("codec", [0, 1])
@pytest.mark.parametrize("names", [["a", "b"], ["a", "", "b"], ["", ""]])
def test_a_name_that_is_no_utf_8_is_read_with_its_bytes_escaped(names: list[str], codec: int) -> None:
    read_any_name()
    data = batches([name or Raw("x") for name in names], codec)
    values = [b"v%d" % place for place in range(len(names))]
    wanted = [
        (offset, value, [("good", b"1"), (name or "caf\\xe9", None)])
        for offset, (value, name) in enumerate(zip(values * 2, names * 2, strict=True))
    ]
    if len(names) == 2:
        assert [offset for offset, *_ in wanted] == [0, 1, 2, 3]
    assert read(fetcher.MemoryRecords(data)) == wanted
    assert read(of_kafka_python.MemoryRecords(data)) == wanted
