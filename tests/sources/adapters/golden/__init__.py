"""Real payload shapes, and what they become; `python -m tests.sources.adapters.golden` writes the latter.

Beside each payload (`CASE.json`, `.csv`, `.txt`) lie `CASE.toml`, which says what it is of, how it came in
and which file decodes its raw bytes, and `CASE.expected`, one JSON document. Look at the difference before
you check it in.
"""

import atexit
import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from schemas.base import format_time
from sources.adapters import adapters
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.source_format import Context
from sources.adapters.core.translation import Translation
from sources.codecs.runner import CodecProcess, JavaScriptCodec

FOLDER: Final = Path(__file__).parent
#: When payloads came in whose toml does not say.
RECEIVED: Final = datetime(2026, 8, 21, 10, 0, 30, tzinfo=UTC)
_PROCESS: Final = CodecProcess()
atexit.register(_PROCESS.close)


class Case(NamedTuple):
    """A golden payload."""

    adapter: Adapter
    file: Path
    context: Context

    def __str__(self) -> str:
        return f"{self.adapter.name}/{self.file.stem}"

    @property
    def expected(self) -> Path:
        return self.file.with_suffix(".expected")


def cases() -> Iterator[Case]:
    """All there are."""
    for told in sorted(FOLDER.glob("*/*.toml")):
        about = tomllib.loads(told.read_text())
        assert about.pop("of"), f"{told} says what it is of: firmware, version of the API"
        payload = next(
            file for file in told.parent.glob(f"{told.stem}.*") if file.suffix in (".json", ".csv", ".txt")
        )
        zone, codec = about.pop("zone", None), about.pop("codec", None)
        context = Context(
            received_at=about.pop("received_at", RECEIVED),
            zone=zone and ZoneInfo(zone),
            codec_of=_codec_of(codec and told.parent / codec),
            **about,
        )
        yield Case(adapters()[told.parent.name], payload, context)


def _codec_of(file: Path | None) -> Callable[[Sequence[str]], JavaScriptCodec | None]:
    if file is None:
        return lambda _: None
    codec = JavaScriptCodec.of_file(file, _PROCESS)
    return lambda names: codec if all(names) else None


def plain(translation: Translation) -> dict[str, Any]:
    """A translation as a document that a person reads."""
    return {
        "readings": [
            {
                "station": reading.station,
                "at": format_time(reading.observed_at),
                "clock": reading.time_source,
                **({"period": f"{reading.period} s, {reading.stamp}"} if reading.period else {}),
                "values": [
                    f"{v.sensor} {v.channel}: {v.parameter} = {v.value:.10g} {v.unit}" for v in reading.values
                ],
            }
            for reading in translation.readings
        ],
        "facts": [
            {name: value for name, value in facts._asdict().items() if value not in ("", None)}
            for facts in translation.facts
        ],
        **{
            kind: [
                f"{part.times} x {part.code} {part.where}: {part.why}" for part in getattr(translation, kind)
            ]
            for kind in ("refused", "left_out", "remarks")
        },
    }


def text(translation: Translation) -> str:
    """It as the file of what is expected."""
    return json.dumps(plain(translation), indent=1, ensure_ascii=False) + "\n"
