"""What `skyfuse train` does from folder to trained model, and the ablations (torch; the `train` extra)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from camera.errors import ImageRefused
from camera.image import decode
from datasets.errors import LayoutError
from datasets.groups import INDIA_NEPAL_UNITLESS, Group, india_nepal, without_refused
from datasets.hourly import FolderReader, hourly, hours
from datasets.provenance import Provenance
from model.bundle.targets import DEFAULT_STANDARD, STATED, describe
from model.errors import TrainingError, WeightsError
from model.evaluation.evaluate import MASKS, score_windows
from model.evaluation.progress import Progress
from model.evaluation.truth import with_target, with_true_concentrations
from model.training.backbones import BACKBONES
from model.training.config import FineTune, TrainConfig, load_config
from model.training.crossval import (
    NOISE,
    build_ensemble,
    cross_validate,
    fold_predictor,
    grouped_folds,
    windows_of,
)
from model.training.export import Trained
from model.training.finetune import fine_tune
from model.training.frames import INPUT_SIZE, FrameTable, read_frames
from model.training.report import FOLDS, full_report
from model.training.train import Projection, Split, fit
from schemas.parameters import POLLUTANTS

__all__ = ["ABLATIONS", "Folder", "Learnt", "ablation", "calibration_frames", "read_groups", "run"]


#: Frames that calibrate an int8 encoder, spread evenly over a folder.
_CALIBRATION_FRAMES: Final = 200


class Folder(NamedTuple):
    """Where to learn from."""

    root: Path
    layout: str  #: "india-nepal", or "layout" for the plain one
    read: FolderReader  #: gives the hours of a folder in the plain layout
    #: Folder in the plain layout with true concentrations of the same stations, or None.
    concentrations: Path | None = None


class Learnt(NamedTuple):
    """What a folder has to teach."""

    groups: list[Group]
    target: str  #: the AQI standard, or STATED
    scale: str  #: the same in words
    problems: list[str]  #: what had to be left out
    #: Pollutants whose values have no trusted unit, and why.
    withheld: dict[str, str]


def read_groups(folder: Folder, target: str) -> Learnt:
    """Groups with the AQI that is to be learned.

    Raises:
        LayoutError: the folder does not follow its layout.
        TrainingError: the target asks for true concentrations where there are none.
    """
    if folder.layout == "layout":
        # The plain layout states no AQI, and its concentrations have units: they are true ones.
        histories, problems = folder.read(folder.root)
        target = DEFAULT_STANDARD if target == STATED else target
        return Learnt(with_target(list(hours(histories)), target), target, describe(target), problems, {})
    if folder.layout != "india-nepal":
        raise LayoutError(f"layout {folder.layout!r} is not known; known: india-nepal, layout")
    groups, left_out = without_refused(india_nepal(folder.root))
    if folder.concentrations is None:
        if target != STATED:
            raise TrainingError(
                f"target {target}: this layout's columns are no true concentrations;"
                " name a folder that has them (--concentrations)"
            )
        return Learnt(groups, STATED, describe(STATED), left_out, INDIA_NEPAL_UNITLESS)
    histories, problems = folder.read(folder.concentrations)
    problems = left_out + problems
    target = DEFAULT_STANDARD if target == STATED else target
    groups, count = with_true_concentrations(groups, hourly(histories), target)
    if count == 0:
        raise TrainingError(
            f"{folder.concentrations} has no hour of any of these stations:"
            f" {', '.join(sorted({group.site.station for group in groups}))}"
        )
    scale = f"{describe(target)}, in {count} of {len(groups)} groups; in the others {describe(STATED)}"
    # One window that keeps its columns is enough: two units in one column are none.
    return Learnt(groups, target, scale, problems, {} if count == len(groups) else INDIA_NEPAL_UNITLESS)


def run(
    config: str, folder: Folder, output: Path, cache: Path, progress: Progress, changes: Mapping[str, Any],
    provenance: Provenance,
) -> tuple[Trained, list[str]]:  # fmt: skip
    """Report by cross-validation, then the model itself on every group. `changes` replace fields.

    Also gives what of the folder had to be left out.
    """
    settings = load_config(config, **changes)
    learnt = read_groups(folder, settings.target)
    table = read_frames(learnt.groups, settings.backbone, cache, progress, _blocks(settings))
    components: dict[bytes, Projection] = {}
    report, intervals = full_report(table, settings, progress, output, components)
    everything = np.ones(len(table.aqi), dtype=bool)
    split = Split(everything if settings.rows == "windows" else everything[table.group])
    tail = None
    if settings.fine_tune is not None:
        table, tail = fine_tune(table, settings, everything[table.group], progress, output / "fine-tuning.pt")
        components = {}
    [fitted] = fit(table, settings, [split], progress, output / "checkpoint.pt", components)
    ensemble, projection = build_ensemble(fitted, table, everything)
    learned = [
        name for name, column in zip(POLLUTANTS, table.sensors.T, strict=True) if not np.isnan(column).all()
    ]
    training = {
        "data": provenance.data,
        "licence": provenance.licence,
        "groups": len(table.aqi),
        "frames": len(table.group),
        "sites": sorted(set(table.site)),
        "split": f"{FOLDS} folds of whole (site, date, hour) groups; the shipped heads saw every group",
        "learned": learned,
        "withheld": {name: why for name, why in learnt.withheld.items() if name in learned},
        "ranges": {
            name: [max(0.0, float(np.nanmin(column))), float(np.nanmax(column))]
            for name, column in zip(POLLUTANTS, table.sensors.T, strict=True)
            if name in learned
        },
        "aqi_mean": round(float(table.aqi.mean()), 3),
        "aqi_scale": learnt.scale,
        "target": learnt.target,
        "remarks": provenance.remarks,
    }
    return Trained(settings, ensemble, projection, intervals, training, report, tail), learnt.problems


def _blocks(config: TrainConfig) -> int:
    return 0 if config.fine_tune is None else config.fine_tune.blocks


def _variants(kind: str, base: TrainConfig) -> dict[str, TrainConfig]:
    if kind == "alpha":
        return {f"alpha {alpha}": base.model_copy(update={"alpha": alpha}) for alpha in (0.0, 0.2, 0.4, 0.6)}
    if kind == "fusion":
        return {
            fusion: base.model_copy(update={"head": base.head.model_copy(update={"fusion": fusion})})
            for fusion in ("concat", "gated", "cross-attention")
        }
    if kind == "masking":
        open_ = {"unmasked_share": 1.0, "sensor_dropout": 0.0, "image_dropout": 0.0, "hour_dropout": 0.0}
        return {"as configured": base, "nothing masked in training": base.model_copy(update=open_)}
    if kind == "backbone":
        return {name: base.model_copy(update={"backbone": name}) for name in BACKBONES}
    if kind == "fine-tuning":
        frozen = base.model_copy(update={"fine_tune": None})
        return {
            "frozen": frozen,
            **{
                f"last {blocks} blocks": base.model_copy(update={"fine_tune": FineTune(blocks=blocks)})
                for blocks in (1, 2)
            },
        }
    raise TrainingError(f"unknown ablation {kind!r}: {', '.join(ABLATIONS)}")


#: What `ablation` can vary.
ABLATIONS: Final = ("alpha", "fusion", "masking", "backbone", "fine-tuning")


def ablation(
    kind: str, config: str, folder: Folder, cache: Path, progress: Progress, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Grouped scores per variant: {variant: {mask pattern: scores}}.

    A variant whose pretrained weights are not to be had is {"missing": why} instead.
    """
    variants = _variants(kind, load_config(config, **changes))
    groups = read_groups(folder, load_config(config, **changes).target).groups
    tables: dict[tuple[str, int], FrameTable] = {}
    components: dict[str, dict[bytes, Projection]] = {}
    result: dict[str, Any] = {}
    for name, variant in variants.items():
        key = variant.backbone, _blocks(variant)
        if key not in tables:
            try:
                tables[key] = read_frames(groups, variant.backbone, cache, progress, key[1])
            except WeightsError as error:
                result[name] = {"missing": str(error)}
                continue
        table = tables[key]
        known = components.setdefault(variant.backbone, {})
        folds = cross_validate(table, variant, grouped_folds(len(table.aqi), FOLDS, 0), progress, known)
        scored = score_windows(
            windows_of(table, folds[0].projection), fold_predictor(folds), NOISE, float(table.aqi.mean()),
            calculators=(), masks=MASKS,
        )  # fmt: skip
        result[name] = {mask: entry["aqi"]["model"] for mask, entry in scored.items()}
    return result


def calibration_frames(folder: Folder) -> list[NDArray[np.uint8]]:
    """Decoded frames from all over a folder."""
    paths = [path for group in read_groups(folder, STATED).groups for path in group.frames]
    chosen = paths[:: max(1, len(paths) // _CALIBRATION_FRAMES)][:_CALIBRATION_FRAMES]
    frames = []
    for path in chosen:
        try:
            frames.append(decode(path.read_bytes(), INPUT_SIZE, INPUT_SIZE).whole)
        except ImageRefused as error:
            raise TrainingError(f"{path} cannot calibrate anything: {error}") from error
    if not frames:
        raise TrainingError(f"{folder.root} has no frames to calibrate on")
    return frames
