"""How a training run is set up: the configurations of `model/configs` and what may be changed of one."""

import tomllib
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.bundle.targets import STATED
from model.errors import TrainingError
from model.training.network import HeadConfig
from schemas.base import first_error

__all__ = ["FineTune", "TrainConfig", "load_config"]

CONFIGS: Final = Path(__file__).parents[1] / "configs"


class FineTune(BaseModel):
    """How the last blocks of the backbone are trained before the heads are (`model.training.finetune`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    blocks: int = Field(1, ge=1, le=8, description="last blocks that are trained; a convolution is one too")
    epochs: int = Field(6, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    batch: int = Field(32, gt=0, description="frames a step")
    frames: int = Field(16, gt=0, description="random frames of each group in an epoch")


class TrainConfig(BaseModel):
    """One training run; files in `model/configs/`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    backbone: str = "mobilenet_v2"
    head: HeadConfig
    #: "learned": a linear projection of the backbone's features, trained with the head.
    #: "pca": the principal components of the training frames, fixed; the head reads the leading ones.
    projection: Literal["learned", "pca"]
    #: "frames": every frame is a row. "windows": all frames of a group are one row, as at run time; training
    #: pools a random few of them.
    rows: Literal["frames", "windows"]
    #: "stated": the AQI that the data states; or an AQI standard, by which it is computed from the
    #: concentrations wherever those are true (`model.bundle.targets`).
    target: str = STATED
    #: None: the backbone stays as ImageNet left it.
    fine_tune: FineTune | None = None
    alpha: float = Field(0.4, ge=0, le=1, description="loss = (1 - alpha) L_AQI + alpha L_sensor")
    beta: float = Field(
        0.25, ge=0, le=1, description="of the beta-NLL loss (Seitzer 2022); heteroscedastic heads"
    )
    learning_rate: float = Field(3e-4, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    epochs: int = Field(gt=0, description="passes over frames; steps where rows = windows")
    batch: int = Field(64, gt=0, description="rows a step; of more windows, so many at random")
    patience: int | None = Field(
        7, description="epochs without a better validation loss; None: no early stop"
    )
    members: int = Field(1, gt=0, description="networks of the ensemble, by seed")
    seed: int = 0
    sensor_masking: float = Field(
        0, ge=0, le=1, description="largest share of sensors hidden in a masked row"
    )
    unmasked_share: float = Field(1, ge=0, le=1, description="rows whose sensors are left as they are")
    image_dropout: float = Field(0, ge=0, lt=1, description="rows without their image")
    sensor_dropout: float = Field(0, ge=0, lt=1, description="rows without any sensor")
    hour_dropout: float = Field(0, ge=0, lt=1)
    sensor_noise: float = Field(0, ge=0, description="on log concentrations, in standard deviations")
    image_noise: float = Field(0, ge=0, description="on embedding and haze, in standard deviations")
    image_head_weight: float = Field(0.2, ge=0, description="of the loss of the heads on h_I alone")


def load_config(path: Path | str, **changes: Any) -> TrainConfig:
    """Read a configuration by file or by the name of one in `model/configs/`; `changes` replace fields.

    Raises `TrainingError` naming the field.
    """
    file = Path(path)
    if file.suffix != ".toml" and not file.exists():
        file = CONFIGS / f"{path}.toml"
    try:
        plain = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(entry.stem for entry in CONFIGS.glob("*.toml")))
        raise TrainingError(f"no training configuration {path}: a .toml file, or one of {known}") from error
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(f"{file}: {error}") from error
    head = {**plain.get("head", {}), **changes.pop("head", {})}
    try:
        return TrainConfig.model_validate({**plain, **changes, "head": head})
    except ValidationError as error:
        raise TrainingError(f"{file}: {first_error(error).message}") from error
