"""The model bundle: a folder with its ONNX graphs, a manifest that says what they are, and a model card.

    encoder.onnx   frames (N, H, W, 3) uint8 RGB -> embedding (N, 128), projection (N, 64),
                   feature_map (N, C, h, w)
    head.onnx      pooled image side + sensors + masks + hour -> AQI and six concentrations, with their scales
    explain.onnx   the head's feeds -> gradient of the AQI by channel of feature_map's mean, for Grad-CAM
                   (heads with concat fusion only)
    manifest.json  schema version, input spec, parameters, units, training data, metrics, sha256 of each file
    MODEL_CARD.md  for people

A bundle is read once and verified before a graph is built from the very bytes that were hashed.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from camera.haze import HAZE_NAMES
from datasets.groups import INDIA_NEPAL_UNITLESS
from model.bundle.targets import STATED
from model.errors import BundleError
from schemas.base import Sha256, first_error
from schemas.parameters import POLLUTANTS
from schemas.reading import LIMITS

__all__ = [
    "DEFAULT_BUNDLE",
    "EMBEDDING_SIZE",
    "PATTERNS",
    "PROJECTION_SIZE",
    "SCHEMA_VERSION",
    "UNSEEN",
    "UNSEEN_AQI",
    "UNSEEN_AQI_WITHOUT_PM25",
    "Bundle",
    "Manifest",
    "write_bundle",
]

SCHEMA_VERSION: Final = 2
EMBEDDING_SIZE: Final = 128
PROJECTION_SIZE: Final = 64
ENCODER_FILE: Final = "encoder.onnx"
HEAD_FILE: Final = "head.onnx"
EXPLAIN_FILE: Final = "explain.onnx"
CARD_FILE: Final = "MODEL_CARD.md"
MANIFEST_FILE: Final = "manifest.json"
DEFAULT_BUNDLE: Final = Path(__file__).parents[1] / "bundles" / "default"

#: Mask patterns, each with an interval table of its own: what is shown to the head, sensors in the order of
#: `POLLUTANTS` and then the image. Pattern k shows the inputs whose bits are set in k + 1.
PATTERNS: Final = tuple(
    "+".join(name for bit, name in enumerate((*POLLUTANTS, "image")) if shown >> bit & 1)
    for shown in range(1, 2 << len(POLLUTANTS))
)

#: Factor on the intervals at a site that no training window came from, where a bundle does not say: what the
#: shipped one needs for PM2.5 to hold nine of ten there (docs/model.md).
UNSEEN: Final = 1.75
#: The same for the AQI, with PM2.5 shown and without: what leave-one-site-out takes (docs/model.md).
UNSEEN_AQI: Final = 1.1
UNSEEN_AQI_WITHOUT_PM25: Final = 1.4


class _ManifestPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileEntry(_ManifestPart):
    sha256: Sha256
    bytes: int = Field(gt=0)


class InputSpec(_ManifestPart):
    """What `encoder.onnx` takes. Normalisation (pixel / 255 - mean) / std happens inside the graph."""

    colour: Literal["RGB"]
    layout: Literal["NHWC"]
    dtype: Literal["uint8"]
    width: int = Field(
        gt=0, description="pixels of the whole frame across; other sizes are allowed (far band)"
    )
    height: int = Field(gt=0)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Backbone(_ManifestPart):
    name: str
    weights: str
    licence: str
    precision: Literal["fp32", "int8"]
    channels: int = Field(gt=0, description="channels of feature_map")


class IntervalTables(_ManifestPart):
    """Split-conformal factors by mask pattern, from residuals of groups that were not trained on.

    Interval of the AQI: estimate -+ factor * aqi_scale; of a concentration:
    expm1(log1p(estimate) -+ factor * sensors_scale).
    """

    level: float = Field(gt=0, lt=1)
    aqi: dict[str, float]
    sensors: dict[str, dict[str, float]] = Field(description="pattern -> parameter -> factor")
    unseen: dict[str, float] = Field(
        {}, description=f"parameter -> further factor at a site that was not trained on; else {UNSEEN}"
    )


class Training(_ManifestPart):
    data: str
    licence: str
    groups: int = Field(gt=0, description="(site, date, hour) groups")
    frames: int = Field(gt=0)
    sites: tuple[str, ...]
    split: str
    learned: tuple[str, ...] = Field(
        POLLUTANTS, min_length=1, description="pollutants of which the data had values"
    )
    withheld: dict[str, str] | None = Field(
        None,
        description="learned pollutants that are neither read nor told, and why: their values had no trusted"
        " unit. None: a bundle from before this was asked; `Bundle.withheld` knows",
    )
    ranges: dict[str, tuple[float, float]] = Field(
        {}, description="parameter -> lowest and highest training value, ug/m3; else up to a tenth of LIMITS"
    )
    configuration: dict[str, Any]


class Manifest(_ManifestPart):
    schema_version: int
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    version: str
    files: dict[str, FileEntry]
    input: InputSpec
    backbone: Backbone
    parameters: tuple[str, ...]
    unit: Literal["ug/m3"]
    haze: tuple[str, ...]
    embedding_size: Literal[128]
    projection_size: Literal[64]
    hour: str = Field(description="meaning of the optional hour input")
    aqi_scale: str = Field(description="which AQI the model estimates")
    intervals: IntervalTables
    training: Training
    metrics: dict[str, Any]
    notes: tuple[str, ...] = ()


class Bundle:
    """A verified bundle: manifest and file contents. Made by `Bundle.load`."""

    def __init__(self, manifest: Manifest, files: dict[str, bytes], manifest_sha256: str) -> None:
        self.manifest = manifest
        self.files = files
        #: Name, version and the first 8 digits of the manifest's sha256, which covers every other file.
        self.id = f"{manifest.name}-{manifest.version}+{manifest_sha256[:8]}"
        #: First 16 digits of the encoder's sha256: embeddings of other encoders are other numbers.
        self.encoder = manifest.files[ENCODER_FILE].sha256[:16]
        training = manifest.training
        withheld = training.withheld
        if withheld is None:
            # Before the field, what was learned "as the data states it" were the india-nepal columns.
            stated = training.configuration.get("target", STATED) == STATED
            withheld = INDIA_NEPAL_UNITLESS if stated else {}
        #: Learned pollutants that the head neither reads nor tells, and why.
        self.withheld: Mapping[str, str] = withheld
        #: Pollutants that the head reads and tells, in ug/m3.
        self.trusted = tuple(name for name in POLLUTANTS if name in training.learned and name not in withheld)

    def range(self, parameter: str) -> tuple[float, float]:
        """Lowest and highest training value of a pollutant, ug/m3."""
        return self.manifest.training.ranges.get(parameter, (0.0, LIMITS[parameter][1] / 10.0))

    def unseen(self, parameter: str) -> float:
        """Factor on the intervals of a pollutant at a site that was not trained on."""
        return self.manifest.intervals.unseen.get(parameter, UNSEEN)

    @classmethod
    def load(cls, path: Path | str | None = None) -> "Bundle":
        """Read and verify the bundle in folder `path`, the shipped one if not given.

        Raises:
            BundleError: a file is missing or altered, the schema version is another, the manifest is broken.
        """
        folder = DEFAULT_BUNDLE if path is None else Path(path)
        try:
            raw = (folder / MANIFEST_FILE).read_bytes()
        except OSError as error:
            raise BundleError(
                f"no model bundle in {folder}: cannot read {MANIFEST_FILE} ({error.strerror})"
            ) from error
        manifest = _parse(raw, folder)
        files: dict[str, bytes] = {}
        for name, entry in manifest.files.items():
            try:
                content = (folder / name).read_bytes()
            except OSError as error:
                raise BundleError(
                    f"{folder / name} is listed in the manifest but cannot be read"
                    f" ({error.strerror}); export again"
                ) from error
            digest = hashlib.sha256(content).hexdigest()
            if digest != entry.sha256:
                raise BundleError(
                    f"{folder / name} is not the file the manifest was written for: sha256 {digest[:12]}...,"
                    f" {len(content)} bytes; expected {entry.sha256[:12]}..., {entry.bytes} bytes."
                    " Restore it or export the bundle again"
                )
            files[name] = content
        return cls(manifest, files, hashlib.sha256(raw).hexdigest())


def _parse(raw: bytes, folder: Path) -> Manifest:
    where = folder / MANIFEST_FILE
    try:
        plain = json.loads(raw)
    except ValueError as error:
        raise BundleError(f"{where} is not JSON: {error}") from error
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{where} has schema_version {version!r}, this skyfuse reads {SCHEMA_VERSION}:"
            " export the bundle with this version, or install the skyfuse it was made with"
        )
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise BundleError(f"{where}: {first_error(error).message}") from error
    for have, want, what in (
        (manifest.parameters, POLLUTANTS, "parameters"),
        (manifest.haze, HAZE_NAMES, "haze statistics"),
        (tuple(sorted(manifest.intervals.aqi)), tuple(sorted(PATTERNS)), "interval patterns (AQI)"),
        (tuple(sorted(manifest.intervals.sensors)), tuple(sorted(PATTERNS)), "interval patterns (sensors)"),
        *((tuple(row), POLLUTANTS, "interval parameters") for row in manifest.intervals.sensors.values()),
    ):
        if tuple(have) != tuple(want):
            raise BundleError(
                f"{where}: {what} are {list(have)}, this skyfuse has {list(want)}; export again"
            )
    training, unseen = manifest.training, manifest.intervals.unseen
    for names, what in (
        (training.learned, "training.learned"),
        (training.withheld or (), "training.withheld"),
        (training.ranges, "training.ranges"),
        (unseen, "intervals.unseen"),
    ):
        unknown = set(names) - set(POLLUTANTS)
        if unknown:
            raise BundleError(f"{where}: {what} names {', '.join(sorted(unknown))}; export again")
    for name, (lowest, highest) in training.ranges.items():
        if not 0.0 <= lowest <= highest < math.inf:
            raise BundleError(
                f"{where}: training.ranges of {name} are {lowest} to {highest} ug/m3: from 0 up, in order"
            )
    for name, factor in unseen.items():
        if not 1.0 <= factor < math.inf:
            raise BundleError(f"{where}: intervals.unseen of {name} is {factor}: a factor of 1 or more")
    lacking = {ENCODER_FILE, HEAD_FILE, CARD_FILE} - set(manifest.files)
    if lacking:
        raise BundleError(f"{where}: files lacks {', '.join(sorted(lacking))}")
    for name in manifest.files:
        if Path(name).name != name:
            raise BundleError(f"{where}: file name {name!r} points outside the bundle")
    return manifest


def write_bundle(folder: Path, manifest: dict[str, Any], files: dict[str, bytes]) -> Bundle:
    """Write `files` and the manifest (its `schema_version` and `files` are filled in) and load the result."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in sorted(files.items())
    }
    complete = {"schema_version": SCHEMA_VERSION, **manifest, "files": entries}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    # The manifest last: a half-written bundle does not load.
    text = json.dumps(complete, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    return Bundle.load(folder)
