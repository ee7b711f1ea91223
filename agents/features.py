"""A features record as an input of the join."""

from typing import Final

from pydantic import ValidationError

from camera.far_band import ROWS
from camera.haze import HAZE_SIZE
from camera.sight import CAMERA_SIZE
from model.bundle.bundle import EMBEDDING_SIZE
from schemas.base import first_error, to_ms
from schemas.errors import Refused
from schemas.features import Features
from streams.accept import Keys, check_time
from streams.join import Item
from streams.stage import KafkaRecord

#: Values in each vector of a features record.
_SIZES: Final = {
    "frame": EMBEDDING_SIZE, "camera": CAMERA_SIZE, "camera_whole": CAMERA_SIZE, "rows": ROWS,
}  # fmt: skip


def features_items(record: KafkaRecord, keys: Keys) -> list[Item]:
    """The join's item of a features record. Raises Refused."""
    if record.value is None:
        raise Refused("empty", "the record has no value")
    try:
        features = Features.model_validate_json(record.value)
    except ValidationError as error:
        raise Refused(*first_error(error)) from error
    _check_sizes(features)
    keys.check(record, features.station)
    at = to_ms(features.captured_at)
    seen = check_time(at, record)
    return [Item(features.station, at, seen, (features.camera, at), features.sha256, features, record.offset)]


def _check_sizes(features: Features) -> None:
    """A vector of another size would stop the head or a camera's virtual sensor. Raises Refused."""
    for name, values in features.embeddings.items():
        if name in _SIZES and len(values) != 4 * _SIZES[name]:
            raise Refused(
                "wrong_size", f"embeddings.{name} has {len(values) // 4} values instead of {_SIZES[name]}"
            )
    if "frame" in features.embeddings and len(features.haze) != 4 * HAZE_SIZE:
        raise Refused(
            "wrong_size",
            f"haze has {len(features.haze) // 4} values instead of {HAZE_SIZE} beside embeddings.frame",
        )
