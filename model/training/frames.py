"""Frames as a frozen backbone sees them, once and kept on disk (torch)."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from camera.errors import ImageRefused
from camera.gate import judge
from camera.haze import haze
from camera.image import decode
from camera.sun import solar_hour
from datasets.groups import Group
from model.errors import TrainingError
from model.evaluation.evaluate import noise_picture
from model.evaluation.progress import Progress
from model.training.backbones import BACKBONES, build_backbone, load_pretrained, tail_start
from schemas.arrays import Float32

__all__ = ["INPUT_SIZE", "FrameTable", "normalised", "read_frames", "usable_picture"]


INPUT_SIZE: Final = 224


class FrameTable(NamedTuple):
    """Frames as backbone features, and the groups they belong to. F frames, G groups, C channels.

    A group may have no frame, or no sensor.
    """

    features: Float32  #: (F, C) pooled
    haze: Float32  #: (F, 20)
    group: NDArray[np.int64]  #: (F,)
    sensors: Float32  #: (G, 6) ug/m3, NaN = missing
    hour: Float32  #: (G,) solar hour
    aqi: Float32  #: (G,)
    site: tuple[str, ...]  #: (G,)
    noise: Float32  #: (C,) of `noise_picture`, to ask what the head makes of a broken camera
    #: (F + 1, c, h, w) float16, what goes into the last blocks, the noise picture last; None: not asked for
    activations: NDArray[np.float16] | None = None


def read_frames(
    groups: Sequence[Group], backbone: str, cache: Path, progress: Progress, blocks: int = 0
) -> FrameTable:
    """Decode and encode every frame of `groups` with the ImageNet-pretrained backbone, or read the cache.

    The cache file is named after the backbone and the frames' names, sizes, modification times, moments and
    places. Frames that the quality gate refuses are left out, as a worker would; groups without an AQI too.

    Args:
        blocks: keep what goes into the last so many blocks too, for fine-tuning them.

    Raises:
        TrainingError: no frame is left.
    """
    groups = [group for group in groups if group.aqi == group.aqi]
    frames = [(index, place) for index, group in enumerate(groups) for place in range(len(group.frames))]
    key = hashlib.sha256(backbone.encode())
    for index, place in frames:
        group = groups[index]
        status = group.frames[place].stat()
        key.update(
            f"{group.frames[place].name}\0{status.st_size}\0{status.st_mtime_ns}"
            f"\0{group.taken(place)}\0{group.position}\n".encode()
        )
    file = cache / f"{backbone}-{key.hexdigest()[:16]}.npz"
    activations = file.with_suffix(f".{blocks}.npy") if blocks else None
    if not file.exists() or (activations is not None and not activations.exists()):
        _encode_all(groups, frames, backbone, file, activations, blocks, progress)
    with np.load(file) as stored:
        features, statistics = stored["features"], stored["haze"]
        kept, noise = stored["kept"], stored["noise"]
    return FrameTable(
        features=features,
        haze=statistics,
        group=np.array([frames[index][0] for index in kept], dtype=np.int64),
        sensors=np.array([group.readings for group in groups], dtype=np.float32),
        hour=np.array([solar_hour(group.time, group.site.longitude) for group in groups], dtype=np.float32),
        aqi=np.array([group.aqi for group in groups], dtype=np.float32),
        site=tuple(group.site.station for group in groups),
        noise=noise,
        activations=None if activations is None else np.load(activations, mmap_mode="r"),
    )


def usable_picture(group: Group, place: int) -> NDArray[np.uint8] | str:
    """The picture as the encoder takes it, or why a worker would not use it."""
    path = group.frames[place]
    try:
        frame = decode(path.read_bytes(), INPUT_SIZE, INPUT_SIZE)
    except OSError as error:
        return f"{path}: {error.strerror}"
    except ImageRefused as error:
        return f"{path}: {error}"
    verdict = judge(frame, group.taken(place), group.position)
    return frame.whole if verdict.usable else f"{path}: {', '.join(verdict.reasons)}"


def _encode_all(
    groups: Sequence[Group], frames: list[tuple[int, int]], backbone: str, file: Path,
    activations: Path | None, blocks: int, progress: Progress,
) -> None:  # fmt: skip
    net = build_backbone(backbone)
    load_pretrained(net, backbone)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.eval().to(device)
    cut = tail_start(net, blocks)
    front, tail = nn.Sequential(*list(net.children())[:cut]), nn.Sequential(*list(net.children())[cut:])
    features, inner, statistics, kept, left_out = [], [], [], [], list[str]()
    size = 256 if device.type == "cuda" else 16

    def encode(pixels: Sequence[NDArray[np.uint8]]) -> None:
        middle = front(normalised(pixels, backbone).to(device))
        features.append(tail(middle).mean((2, 3)).cpu().numpy())
        if activations is not None:
            inner.append(middle.cpu().numpy().astype(np.float16))

    with torch.inference_mode():
        for start in range(0, len(frames), size):
            pixels = []
            for number in range(start, min(start + size, len(frames))):
                index, place = frames[number]
                picture = usable_picture(groups[index], place)
                if isinstance(picture, str):
                    left_out.append(picture)
                    continue
                pixels.append(picture)
                statistics.append(haze(picture))
                kept.append(number)
            if pixels:
                encode(pixels)
            progress(f"encoding frames with {backbone}", min(start + size, len(frames)), len(frames))
        file.parent.mkdir(parents=True, exist_ok=True)
        if left_out:
            reasons = file.with_suffix(".left-out.txt")
            reasons.write_text("".join(f"{line}\n" for line in left_out), encoding="utf-8")
            progress(f"frames left out (see {reasons})", len(left_out), len(frames))
        if not kept:
            raise TrainingError(
                f"none of {len(frames)} frames with a known AQI can be used; the first: {left_out[0]}"
                if frames
                else "no frames with a known AQI to train on"
            )
        encode([noise_picture(INPUT_SIZE, INPUT_SIZE)])
    if activations is not None:
        half = activations.with_suffix(".part.npy")
        np.save(half, np.concatenate(inner))
        os.replace(half, activations)
    partial = file.with_suffix(".part.npz")
    every = np.concatenate(features)
    np.savez(partial, features=every[:-1], noise=every[-1], haze=np.stack(statistics), kept=np.array(kept))
    os.replace(partial, file)


def normalised(pixels: Sequence[NDArray[np.uint8]], backbone: str) -> Tensor:
    """(N, 3, H, W) as the backbone's weights were trained, from N uint8 pictures (H, W, 3) of one size."""
    spec = BACKBONES[backbone]
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(torch.float32) / 255
    return (x - torch.tensor(spec.mean).view(1, 3, 1, 1)) / torch.tensor(spec.std).view(1, 3, 1, 1)
