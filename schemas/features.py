"""What the vision stage keeps of a frame: embeddings, haze statistics and the quality verdict, about 1 kB."""

from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from schemas.base import DeviceId, Record, StationId, UtcTime


def _numbers(data: bytes) -> bytes:
    if len(data) % 4:
        raise PydanticCustomError(
            "not_float32", "{size} bytes are no float32 values: send 4 bytes each", {"size": len(data)}
        )
    values = np.frombuffer(data, "<f4")
    if not np.isfinite(values).all():
        raise PydanticCustomError(
            "not_finite", "a value is {value}: leave out a vector that does not exist",
            {"value": str(values[~np.isfinite(values)][0])},
        )  # fmt: skip
    return data


Float32Bytes = Annotated[
    bytes,
    AfterValidator(_numbers),
    Field(description="little-endian float32 values, each finite, base64 in JSON"),
]


#: A name of our own making. What is not is bounded here: it goes into every estimate of its window.
Code = Annotated[str, Field(max_length=64)]


class Quality(Record):
    """The gate's verdict on a frame."""

    usable: Annotated[bool, Field(description="false: the frame lends nothing to an estimate")]
    reasons: Annotated[
        tuple[Code, ...], Field(max_length=32, description="why it is not usable, as codes: night, blur …")
    ] = ()
    scores: Annotated[dict[Code, float], Field(max_length=64, description="the gate's scores, by name")] = {}


class Features(Record):
    """Features of one frame. Kafka key: the station id."""

    station: StationId
    camera: DeviceId
    captured_at: Annotated[UtcTime, Field(description="when the picture was taken")]
    frame_id: Annotated[str, Field(max_length=256, description="ce_id of the frame")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="of the frame's bytes")]
    bundle: Annotated[
        str, Field(max_length=128, description="id of the model bundle whose encoder made these")
    ]
    encoder: Annotated[
        str,
        Field(
            max_length=64,
            description="first 16 digits of that encoder's sha256; a head of another encoder uses none of it",
        ),
    ] = ""
    embeddings: Annotated[
        dict[Code, Float32Bytes],
        Field(
            max_length=16,
            description="frame: 128, the network's; camera: 64, what this camera's virtual sensor reads;"
            " camera_whole: the same of the whole frame where `camera` is of a far band;"
            " rows: 36, log contrast of the picture's rows, while the camera has no far band",
        ),
    ]
    haze: Annotated[Float32Bytes, Field(description="haze statistics, order in camera.haze.NAMES")] = b""
    quality: Quality
    camera_layout: Annotated[
        str, Field(max_length=128, description="which part of the picture `camera` is of")
    ] = ""
    digest: Annotated[
        str,
        Field(
            max_length=128,
            description="of the picture's middle, equal for a frozen camera's frames; empty: unknown",
        ),
    ] = ""


class Punctuation(Record):
    """Progress without data, on every input partition: sent by a replay, forwarded by the vision stage.

    Kafka value of a record whose header `ce_type` is ``skyfuse.punctuation.v1``; it has no key.
    """

    kind: Annotated[
        Literal["watermark", "busy"],
        Field(description="watermark: nothing earlier than `at` follows here; busy: data is on its way"),
    ]
    at: UtcTime | None = None
