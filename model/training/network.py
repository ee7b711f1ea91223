"""AQFusionNet (Kushal & Al Mamun 2025) and its robust form, as torch modules.

    frame -> backbone -> global mean -> projection -> h_I (128) --+
                                                                   +-> fusion -> AQI, six concentrations
    six sensors (+ mask bits, hour) -> sensor encoder -> h_S (128) +

`paper` is what the paper describes, as far as its parameter counts fix it: sensors 6-64-128, concatenation,
one fusion layer 256-64 with ReLU and dropout, two linear heads (2.41, 11.27 and 4.20 M parameters with
MobileNetV2, ResNet18 and EfficientNet-B0). `robust` adds mask bits, the hour, haze statistics, scales
(heteroscedastic outputs), and heads on h_I alone.

Long because both forms are made of the same few parts, and should be read side by side.
"""

import math
from typing import Final, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from camera.haze import HAZE_SIZE
from model.bundle.bundle import EMBEDDING_SIZE
from model.training.backbones import BACKBONES, build_backbone
from schemas.parameters import POLLUTANTS

__all__ = [
    "AQFusionNet",
    "EnsembleHead",
    "EnsembleOutputs",
    "Familiarity",
    "FusionHead",
    "HeadConfig",
    "HeadInputs",
    "HeadOutputs",
    "Scaling",
]

SENSORS: Final = len(POLLUTANTS)
#: AQI points per unit inside the network.
AQI_UNIT: Final = 100.0


class HeadInputs(NamedTuple):
    """One row per window; masks are 0 or 1 and what they hide is 0. Feeds of head.onnx, in this order."""

    embedding: Tensor  #: (N, 128)
    image_present: Tensor  #: (N, 1)
    haze: Tensor  #: (N, 20)
    haze_present: Tensor  #: (N, 1)
    sensors: Tensor  #: (N, 6) ug/m3
    sensors_present: Tensor  #: (N, 6)
    hour: Tensor  #: (N, 2) sine and cosine of the solar hour; 0, 0 = unknown


class DecodedOutputs(NamedTuple):
    """What the linear heads say: AQI in points, concentrations as log(1 + ug/m3), each with its scale."""

    aqi: Tensor
    aqi_scale: Tensor
    log_sensors: Tensor
    log_sensors_scale: Tensor


class HeadOutputs(NamedTuple):
    """AQI in points; concentrations as log(1 + ug/m3). `image_*` are read from h_I alone."""

    aqi: Tensor  #: (N, 1)
    aqi_scale: Tensor  #: (N, 1)
    log_sensors: Tensor  #: (N, 6)
    log_sensors_scale: Tensor  #: (N, 6)
    image_aqi: Tensor  #: (N, 1)
    image_log_sensors: Tensor  #: (N, 6)


class HeadConfig(BaseModel):
    """Shape of a fusion head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fusion: Literal["concat", "gated", "cross-attention"] = "concat"
    sensor_widths: tuple[int, ...] = Field((64,), description="hidden widths of the sensor encoder")
    fusion_width: int = Field(64, gt=0)
    dropout: float = Field(0.2, ge=0, lt=1)
    masks: bool = Field(False, description="mask bits as inputs; off: a missing value is the training mean")
    hour: bool = False
    haze: bool = False
    components: int = Field(
        EMBEDDING_SIZE, gt=0, le=EMBEDDING_SIZE, description="leading components of h_I that the head reads"
    )
    heteroscedastic: bool = False
    image: bool = Field(True, description="off: a sensors-only network")
    sensors: bool = Field(True, description="off: an image-only network")


class Scaling(NamedTuple):
    """Standardisation learned from the training rows; stacked over an ensemble like any parameter."""

    log_mean: Tensor  #: (6,) of log(1 + ug/m3)
    log_std: Tensor
    linear_mean: Tensor  #: (6,) of ug/m3
    linear_std: Tensor
    haze_mean: Tensor  #: (20,)
    haze_std: Tensor
    embedding_mean: Tensor  #: (128,)
    embedding_std: Tensor  #: (1,), one for all: a small component stays small
    aqi_mean: Tensor  #: (1,) in AQI_UNIT

    @classmethod
    def neutral(cls) -> "Scaling":
        """For a network whose scaling is loaded later, and for counting parameters."""
        zero, one = torch.zeros, torch.ones
        return cls(
            zero(SENSORS), one(SENSORS), zero(SENSORS), one(SENSORS), zero(HAZE_SIZE), one(HAZE_SIZE),
            zero(EMBEDDING_SIZE), one(1), zero(1),
        )  # fmt: skip


class _Concat(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * EMBEDDING_SIZE, width)

    def forward(self, image: Tensor, sensors: Tensor, tokens: Tensor, present: Tensor) -> Tensor:  # noqa: ARG002
        mixed: Tensor = self.mix(torch.cat([image, sensors], 1))
        return mixed


class _Gated(nn.Module):
    """h = z * h_I + (1 - z) * h_S with z = sigmoid(W [h_I; h_S]), per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * EMBEDDING_SIZE, EMBEDDING_SIZE)
        self.mix = nn.Linear(EMBEDDING_SIZE, width)

    def forward(self, image: Tensor, sensors: Tensor, tokens: Tensor, present: Tensor) -> Tensor:  # noqa: ARG002
        z = torch.sigmoid(self.gate(torch.cat([image, sensors], 1)))
        mixed: Tensor = self.mix(z * image + (1 - z) * sensors)
        return mixed


class _CrossAttention(nn.Module):
    """h_I asks the six sensors' tokens (missing ones cannot be looked at) and is added to the answer.

    The answer is concatenated with h_S, which the sensors' own encoder made.
    """

    HEADS: Final = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
        self.token = nn.Parameter(torch.randn(SENSORS, EMBEDDING_SIZE) * 0.1)
        self.slope = nn.Parameter(torch.randn(SENSORS, EMBEDDING_SIZE) * 0.1)
        self.key = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
        self.value = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
        self.mix = nn.Linear(2 * EMBEDDING_SIZE, width)

    def forward(self, image: Tensor, sensors: Tensor, tokens: Tensor, present: Tensor) -> Tensor:
        rows, size = image.shape[0], EMBEDDING_SIZE // self.HEADS
        embedded = (self.token + tokens[:, :, None] * self.slope).reshape(rows * SENSORS, EMBEDDING_SIZE)
        keys = self.key(embedded).reshape(rows, SENSORS, self.HEADS, size)
        values = self.value(embedded).reshape(rows, SENSORS, self.HEADS, size)
        query = self.query(image).reshape(rows, 1, self.HEADS, size)
        scores = (query * keys).sum(3) / math.sqrt(size) - 1e4 * (1 - present[:, :, None])
        answer = (torch.softmax(scores, 1)[..., None] * values).sum(1).reshape(rows, EMBEDDING_SIZE)
        any_present = (present.sum(1, keepdim=True) > 0).to(answer.dtype)
        mixed: Tensor = self.mix(torch.cat([image + answer * any_present, sensors], 1))
        return mixed


_FUSIONS: Final[dict[str, type[nn.Module]]] = {
    "concat": _Concat,
    "gated": _Gated,
    "cross-attention": _CrossAttention,
}


class FusionHead(nn.Module):
    """Sensor encoder, fusion and heads on a given image embedding (module docstring)."""

    def __init__(self, config: HeadConfig, scaling: Scaling | None = None) -> None:
        super().__init__()
        self.config = config
        for name, value in (scaling or Scaling.neutral())._asdict().items():
            self.register_buffer(name, value.clone())
        width = SENSORS + (2 * SENSORS if config.masks else 0) + (2 if config.hour else 0)
        layers: list[nn.Module] = []
        for hidden in config.sensor_widths:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        self.sensor_encoder = nn.Sequential(*layers, nn.Linear(width, EMBEDDING_SIZE))
        self.reads_raw_embedding = (
            config.components == EMBEDDING_SIZE and not config.haze and not config.masks
        )
        if not self.reads_raw_embedding:
            self.image_encoder = nn.Linear(
                config.components + 1 + (HAZE_SIZE + 1 if config.haze else 0), EMBEDDING_SIZE
            )
        self.fusion = _FUSIONS[config.fusion](config.fusion_width)
        outputs = 2 if config.heteroscedastic else 1
        self.aqi_head = nn.Linear(config.fusion_width, outputs)
        self.sensor_head = nn.Linear(config.fusion_width, SENSORS * outputs)
        if config.heteroscedastic:
            self.image_head = nn.Linear(EMBEDDING_SIZE, 1 + SENSORS)

    def sensor_features(self, x: HeadInputs) -> Tensor:
        """What the sensor encoder reads: standardised logarithms first."""
        present = x.sensors_present * float(self.config.sensors)
        parts = [(torch.log1p(x.sensors) - self.log_mean) / self.log_std * present]
        if self.config.masks:
            parts += [(x.sensors - self.linear_mean) / self.linear_std * present, present]
        if self.config.hour:
            parts.append(2 * x.hour)
        return torch.cat(parts, 1)

    def image_features(self, x: HeadInputs) -> Tensor:
        """What the image encoder reads; h_I itself where there is no such encoder."""
        if not self.config.image:
            x = x._replace(image_present=x.image_present * 0, haze_present=x.haze_present * 0)
        if self.reads_raw_embedding:
            return x.embedding * x.image_present
        parts = [
            (x.embedding - self.embedding_mean)[:, : self.config.components]
            / self.embedding_std
            * x.image_present,
            x.image_present,
        ]
        if self.config.haze:
            parts += [(x.haze - self.haze_mean) / self.haze_std * x.haze_present, x.haze_present]
        return torch.cat(parts, 1)

    def _encode(self, x: HeadInputs) -> tuple[Tensor, Tensor]:
        """h_I (as the fusion sees it) and the fusion layer before its ReLU."""
        sensors, image = self.sensor_features(x), self.image_features(x)
        log = sensors[:, :SENSORS]
        if not self.reads_raw_embedding:
            image = self.image_encoder(image)
        present = x.sensors_present * float(self.config.sensors)
        return image, self.fusion(image, self.sensor_encoder(sensors), log, present)

    def aqi_gradient(self, x: HeadInputs) -> Tensor:
        """(N, 128) gradient of the AQI with respect to `x.embedding`, analytically; concat fusion only."""
        _, mixed = self._encode(x)
        through = (mixed > 0).to(mixed.dtype) * self.aqi_head.weight[0] * AQI_UNIT
        gradient = through @ self.fusion.mix.weight[:, :EMBEDDING_SIZE]
        if not self.reads_raw_embedding:
            gradient = gradient @ self.image_encoder.weight[:, : self.config.components] / self.embedding_std
            gradient = functional.pad(gradient, (0, EMBEDDING_SIZE - self.config.components))
        return gradient * x.image_present * float(self.config.image)

    def forward(self, x: HeadInputs) -> HeadOutputs:
        """Estimates of N rows."""
        image, mixed = self._encode(x)
        mixed = functional.dropout(functional.relu(mixed), self.config.dropout, self.training)
        aqi, aqi_scale, log, log_scale = self.decode(self.aqi_head(mixed), self.sensor_head(mixed))
        alone = torch.cat([aqi, log], 1) * 0
        if self.config.heteroscedastic:
            alone = self.image_head(image)
        return HeadOutputs(
            aqi=aqi,
            aqi_scale=aqi_scale,
            log_sensors=log,
            log_sensors_scale=log_scale,
            image_aqi=(alone[:, :1] + self.aqi_mean) * AQI_UNIT,
            image_log_sensors=alone[:, 1:] * self.log_std + self.log_mean,
        )

    def decode(self, aqi: Tensor, concentrations: Tensor) -> DecodedOutputs:
        """The linear heads' outputs in their units."""
        if self.config.heteroscedastic:
            aqi_scale = 0.05 + functional.softplus(aqi[..., 1:] - 1)
            log_scale = 0.05 + functional.softplus(concentrations[..., SENSORS:] - 0.5)
        else:
            aqi_scale = torch.ones_like(aqi)
            log_scale = torch.ones_like(concentrations)
        return DecodedOutputs(
            (aqi[..., :1] + self.aqi_mean) * AQI_UNIT,
            aqi_scale * AQI_UNIT,
            concentrations[..., :SENSORS] * self.log_std + self.log_mean,
            log_scale * self.log_std,
        )


class Familiarity(NamedTuple):
    """What the training cameras looked like: a picture far from all of them is not to be trusted."""

    prototypes: Tensor  #: (P, components) leading components of the training windows' h_I
    radius: float  #: distance to the nearest prototype at which the image counts half
    softness: float  #: width of the logistic step


class EnsembleOutputs(NamedTuple):
    """Outputs of head.onnx, in this order."""

    aqi: Tensor  #: (N, 1)
    aqi_scale: Tensor  #: (N, 1)
    log_sensors: Tensor  #: (N, 6)
    log_sensors_scale: Tensor  #: (N, 6)
    familiarity: Tensor  #: (N, 1), share with which the image counts; 0 without one


def _without_image(x: HeadInputs) -> HeadInputs:
    return x._replace(
        embedding=x.embedding * 0,
        image_present=x.image_present * 0,
        haze=x.haze * 0,
        haze_present=x.haze_present * 0,
    )


class EnsembleHead(nn.Module):
    """Mean of several fusion heads, asked with and without the image, mixed by the image's familiarity.

    A camera that was never seen beside a sensor says less than nothing (figures in docs/model.md), so its
    estimate fades into the one from the sensors alone. The scale covers the members' own scales, their
    disagreement and the mixture's spread (law of total variance).
    """

    def __init__(self, heads: list[FusionHead], familiarity: Familiarity) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.nearest = nn.Linear(familiarity.prototypes.shape[1], familiarity.prototypes.shape[0])
        with torch.no_grad():
            self.nearest.weight.copy_(familiarity.prototypes)
            self.nearest.bias.copy_(-(familiarity.prototypes**2).sum(1) / 2)
        self.radius, self.softness = familiarity.radius, familiarity.softness
        for name in ("first_weight", "first_bias", "second_weight", "second_bias"):
            self.register_buffer(name, None)
        self._fold()

    def _members(self, x: HeadInputs) -> tuple[Tensor, Tensor]:
        """Mean and variance (N, 7): AQI, then log concentrations."""
        if self.first_weight is not None:
            first = self.heads[0]
            features = torch.cat([first.image_features(x), first.sensor_features(x)], 1)
            hidden = functional.relu(functional.linear(features, self.first_weight, self.first_bias))
            # (members, N, width) @ (members, width, outputs): one small product a member.
            hidden = hidden.unflatten(1, (len(self.heads), -1)).transpose(0, 1)
            second = hidden @ self.second_weight + self.second_bias
            cut = 2 if first.config.heteroscedastic else 1
            aqi, aqi_scale, log, log_scale = first.decode(second[..., :cut], second[..., cut:])
            value, scale = torch.cat([aqi, log], 2), torch.cat([aqi_scale, log_scale], 2)
        else:
            outputs = [head(x) for head in self.heads]
            value = torch.stack([torch.cat([out.aqi, out.log_sensors], 1) for out in outputs])
            scale = torch.stack([torch.cat([out.aqi_scale, out.log_sensors_scale], 1) for out in outputs])
        mean = value.mean(0)
        return mean, ((value - mean) ** 2 + scale**2).mean(0)

    def _fold(self) -> None:
        """Linear encoders and fusion layer of all members as one matrix, where nothing lies between them."""
        config = self.heads[0].config
        foldable = (
            config.fusion == "concat"
            and not config.sensor_widths
            and not self.heads[0].reads_raw_embedding
            and all(
                head.config == config and all(map(torch.equal, head.buffers(), self.heads[0].buffers()))
                for head in self.heads
            )
        )
        if not foldable:
            return
        weights, biases, seconds, second_biases = [], [], [], []
        for head in self.heads:
            mix = head.fusion.mix
            for_image, for_sensors = mix.weight[:, :EMBEDDING_SIZE], mix.weight[:, EMBEDDING_SIZE:]
            encoder = head.sensor_encoder[-1]
            weights.append(
                torch.cat([for_image @ head.image_encoder.weight, for_sensors @ encoder.weight], 1)
            )
            biases.append(mix.bias + for_image @ head.image_encoder.bias + for_sensors @ encoder.bias)
            seconds.append(torch.cat([head.aqi_head.weight, head.sensor_head.weight]).T)
            second_biases.append(torch.cat([head.aqi_head.bias, head.sensor_head.bias])[None])
        with torch.no_grad():
            self.first_weight, self.first_bias = torch.cat(weights).detach(), torch.cat(biases).detach()
            self.second_weight = torch.stack(seconds).detach()
            self.second_bias = torch.stack(second_biases).detach()

    def familiarity(self, x: HeadInputs) -> Tensor:
        """(N, 1) in 0..1."""
        leading = x.embedding[:, : self.nearest.in_features]
        # |x - p|^2 = |x|^2 - 2 (x.p - |p|^2 / 2), smallest over the prototypes.
        squared = (leading**2).sum(1, keepdim=True) - 2 * self.nearest(leading).amax(1, keepdim=True)
        distance = squared.clamp(min=1e-6).sqrt()
        return torch.sigmoid((self.radius - distance) / self.softness) * x.image_present

    def aqi_gradient(self, x: HeadInputs) -> Tensor:
        """(N, 128) gradient of the AQI with respect to `x.embedding`; haze statistics are taken as fixed."""
        share = self.familiarity(x)
        direct = sum((head.aqi_gradient(x) for head in self.heads), torch.zeros_like(x.embedding))
        leading = x.embedding[:, : self.nearest.in_features]
        away = leading - self.nearest.weight[self.nearest(leading).argmax(1)]
        distance = (away**2).sum(1, keepdim=True).clamp(min=1e-6).sqrt()
        slope = -share * (1 - share) / self.softness * away / distance
        slope = functional.pad(slope, (0, EMBEDDING_SIZE - self.nearest.in_features))
        gap = self._members(x)[0][:, :1] - self._members(_without_image(x))[0][:, :1]
        return share * direct / len(self.heads) + gap * slope

    def forward(self, *feeds: Tensor) -> EnsembleOutputs:
        """`feeds` as in `HeadInputs`."""
        x = HeadInputs(*feeds)
        share = self.familiarity(x)
        with_image, variance_with = self._members(x)
        without, variance_without = self._members(_without_image(x))
        mean = share * with_image + (1 - share) * without
        variance = (
            share * variance_with
            + (1 - share) * variance_without
            + share * (1 - share) * (with_image - without) ** 2
        )
        scale = variance.clamp(min=1e-8).sqrt()
        # exp(12) is 163 mg/m3: nothing breathable lies beyond, and expm1 stays finite.
        log = mean[:, 1:].clamp(min=0, max=12)
        return EnsembleOutputs(mean[:, :1], scale[:, :1], log, scale[:, 1:], share)


class AQFusionNet(nn.Module):
    """The unsplit network: backbone, projection to h_I and fusion head."""

    def __init__(self, backbone: str, config: HeadConfig, scaling: Scaling | None = None) -> None:
        super().__init__()
        spec = BACKBONES[backbone]
        self.backbone = build_backbone(backbone)
        self.projection = nn.Linear(spec.channels, EMBEDDING_SIZE)
        self.head = FusionHead(config, scaling)
        std = torch.tensor(spec.std).view(1, 3, 1, 1)
        self.register_buffer("pixel_scale", 1 / (255 * std), persistent=False)
        self.register_buffer("pixel_shift", torch.tensor(spec.mean).view(1, 3, 1, 1) / std, persistent=False)

    def feature_map(self, frames: Tensor) -> Tensor:
        """Last feature map (N, C, h, w) of uint8 RGB frames (N, H, W, 3)."""
        x = frames.permute(0, 3, 1, 2).to(torch.float32) * self.pixel_scale - self.pixel_shift
        features: Tensor = self.backbone(x)
        return features

    def embed(self, frames: Tensor) -> Tensor:
        """h_I (N, 128)."""
        embedding: Tensor = self.projection(self.feature_map(frames).mean((2, 3)))
        return embedding

    def forward(
        self, frames: Tensor, sensors: Tensor, sensors_present: Tensor, haze: Tensor, hour: Tensor
    ) -> HeadOutputs:
        """Estimates of N windows of one frame each."""
        one = torch.ones_like(sensors[:, :1])
        outputs: HeadOutputs = self.head(
            HeadInputs(self.embed(frames), one, haze, one, sensors, sensors_present, hour)
        )
        return outputs
