"""Names of Kafka headers that are no UTF-8: such a record is read like any other, the odd bytes escaped.

To Kafka a header's name is any bytes. Both client libraries decode it while they unpack what was fetched, and
raise where that fails: before there is a record that could be refused, and again at every further try. So one
record of a producer with another encoding would stop a worker for all stations. Batches in which that happens
are unpacked once more, by the libraries' own code, on bytes that know how to be decoded.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

import aiokafka.consumer.fetcher
import kafka.record.memory_records
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch

#: Offset of a batch, and how many bytes follow.
_BATCH: Final = struct.Struct(">qi")


class _Escaping(bytearray):
    """Bytes whose slices decode to text whatever they are."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Escaping(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _Batch:
    """A batch as aiokafka's fetcher uses it."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            again = _DefaultRecordBatchPy(self._data)
            again._maybe_uncompress()
            again._buffer = _Escaping(again._buffer)
            return iter(list(again))


class _Records:
    """What was fetched of a partition, as aiokafka's fetcher uses it."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = memoryview(data)
        self._at = 0
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        _, length = _BATCH.unpack_from(self._data, self._at)
        begin, self._at = self._at, self._at + _BATCH.size + length
        return _Batch(batch, self._data[begin : self._at])


class _DefaultRecordBatch(DefaultRecordBatch):  # type: ignore[misc]
    """A batch as kafka-python reads it."""

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            self._buffer: bytearray = _Escaping(self._buffer)
            return super()._read_msg()


def read_any_name() -> None:
    """From now on both libraries read such records."""
    aiokafka.consumer.fetcher.MemoryRecords = _Records
    kafka.record.memory_records.DefaultRecordBatch = _DefaultRecordBatch
