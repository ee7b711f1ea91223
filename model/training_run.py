"""What `skyfuse train` does from folder to trained model, and the ablations (torch; the `train` extra)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.crossval import build_ensemble, cross_validate, fold_predictor, grouped_folds, windows_of
from model.data import india_nepal
from model.errors import ImageRefused, TrainingError
from model.evaluate import MASKS, score_windows
from model.export import Trained
from model.image import decode
from model.report import FOLDS, full_report
from model.train import INPUT_SIZE, FrameTable, Projection, Split, TrainConfig, fit, load_config, read_frames

__all__ = ["ablation", "calibration_frames", "run"]

Progress = Callable[[str, int, int], None]

#: Frames that calibrate an int8 encoder, spread evenly over a folder.
_CALIBRATION_FRAMES: Final = 200


def run(
    config: str, folder: Path, output: Path, cache: Path, progress: Progress, changes: Mapping[str, Any],
    data: str, licence: str, remarks: str,
) -> Trained:  # fmt: skip
    """Report by cross-validation, then the model itself on every group. `changes` replace fields."""
    settings = load_config(config, **changes)
    table = read_frames(list(india_nepal(folder)), settings.backbone, cache, progress)
    components: dict[bytes, Projection] = {}
    report, intervals = full_report(table, settings, progress, output, components)
    groups = np.ones(len(table.aqi), dtype=bool)
    split = Split(groups if settings.rows == "windows" else groups[table.group])
    [fitted] = fit(table, settings, [split], progress, output / "checkpoint.pt", components)
    ensemble, projection = build_ensemble(fitted, table, groups)
    training = {
        "data": data,
        "licence": licence,
        "groups": len(table.aqi),
        "frames": len(table.group),
        "sites": sorted(set(table.site)),
        "split": f"{FOLDS} folds of whole (site, date, hour) groups; the shipped heads saw every group",
        "aqi_mean": round(float(table.aqi.mean()), 3),
        "aqi_scale": "as the data states it",
        "remarks": remarks,
    }
    return Trained(settings, ensemble, projection, intervals, training, report)


def ablation(
    kind: str, config: str, folder: Path, cache: Path, progress: Progress, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Grouped scores per variant: {variant: {mask pattern: scores}}."""
    base = load_config(config, **changes)
    variants: dict[str, TrainConfig] = {}
    if kind == "alpha":
        variants = {
            f"alpha {alpha}": base.model_copy(update={"alpha": alpha}) for alpha in (0.0, 0.2, 0.4, 0.6)
        }
    elif kind == "fusion":
        for fusion in ("concat", "gated", "cross-attention"):
            variants[fusion] = base.model_copy(
                update={"head": base.head.model_copy(update={"fusion": fusion})}
            )
    elif kind == "masking":
        open_ = {"unmasked_share": 1.0, "sensor_dropout": 0.0, "image_dropout": 0.0, "hour_dropout": 0.0}
        variants = {"as configured": base, "nothing masked in training": base.model_copy(update=open_)}
    elif kind == "backbone":
        for name in ("mobilenet_v2", "efficientnet_lite0"):
            variants[name] = base.model_copy(update={"backbone": name})
    else:
        raise TrainingError(f"unknown ablation {kind!r}: alpha, fusion, masking or backbone")
    groups = list(india_nepal(folder))
    tables: dict[str, FrameTable] = {}
    components: dict[str, dict[bytes, Projection]] = {}
    result = {}
    for name, variant in variants.items():
        if variant.backbone not in tables:
            tables[variant.backbone] = read_frames(groups, variant.backbone, cache, progress)
        table = tables[variant.backbone]
        known = components.setdefault(variant.backbone, {})
        folds = cross_validate(table, variant, grouped_folds(len(table.aqi), FOLDS, 0), progress, known)
        nothing = (np.zeros(table.features.shape[1], np.float32), np.full(20, -1, np.float32))
        masks = [mask for mask in MASKS if mask.image != "noise"]
        scored = score_windows(
            windows_of(table, folds[0].projection), fold_predictor(table, folds, nothing),
            (np.zeros(128, np.float32), nothing[1]), float(table.aqi.mean()), masks=masks, calculators=(),
        )  # fmt: skip
        result[name] = {mask: entry["aqi"]["model"] for mask, entry in scored.items()}
    return result


def calibration_frames(folder: Path) -> list[NDArray[np.uint8]]:
    """Decoded frames from all over a folder."""
    paths = [path for group in india_nepal(folder) for path in group.frames]
    chosen = paths[:: max(1, len(paths) // _CALIBRATION_FRAMES)][:_CALIBRATION_FRAMES]
    frames = []
    for path in chosen:
        try:
            frames.append(decode(path.read_bytes(), INPUT_SIZE, INPUT_SIZE).whole)
        except ImageRefused as error:
            raise TrainingError(f"{path} cannot calibrate anything: {error}") from error
    if not frames:
        raise TrainingError(f"{folder} has no frames to calibrate on")
    return frames
