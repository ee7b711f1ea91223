"""Scoring an exported bundle on a folder of frames and readings, through the worker's own run-time code.

    report = evaluate(Bundle.load(path), Path("folder"))

One row is one window: all frames of a group pooled, one reading vector. Every mask pattern hides the same
inputs from the model and from the simple rivals that stand beside it (AQI calculators, mean of the training
data, last value of the site). No torch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from camera.errors import ImageRefused
from camera.gate import judge
from camera.haze import HAZE_SIZE, haze
from camera.image import decode
from camera.sun import solar_hour
from datasets.errors import LayoutError
from datasets.groups import Group, india_nepal, without_refused
from datasets.hourly import FolderReader, hours
from model.bundle.bundle import EMBEDDING_SIZE, PATTERNS, Bundle
from model.bundle.runtime import Encoder, Head, HeadOutput, pool
from model.bundle.targets import DEFAULT_STANDARD, STATED, calculate, describe
from model.evaluation.metrics import aqi_class, bootstrap, scores
from model.evaluation.progress import Progress
from model.evaluation.truth import with_target
from schemas.arrays import Bool, Float32, Float64
from schemas.base import format_time
from schemas.parameters import POLLUTANTS

__all__ = [
    "MASKS",
    "EvaluationReport",
    "Mask",
    "Windows",
    "evaluate",
    "masked",
    "read_windows",
    "score_windows",
]


#: Draws of the random mask patterns.
_REPEATS: Final = 5
#: What portals state as an AQI at all: some go on beyond the 500 at which the tables end.
_AQI_SPAN: Final = (0.0, 999.0)
#: Standards whose tables serve as AQI calculators: the data mixes Indian and US index values.
CALCULATORS: Final = ("us-epa-2012", "us-epa-2024", "in-naqi-2014")


class Windows(NamedTuple):
    """N windows as the head sees them, with the truth."""

    embedding: Float32  #: (N, 128)
    image_present: Bool  #: (N,)
    haze: Float32  #: (N, 20)
    sensors: Float32  #: (N, 6) ug/m3, NaN = missing
    hour: Float32  #: (N,)
    aqi: Float64  #: (N,)
    site: tuple[str, ...]
    time: tuple[str, ...]  #: ISO 8601
    frames_used: tuple[int, ...]
    frames_refused: tuple[int, ...]


class Mask(NamedTuple):
    """One mask pattern."""

    name: str
    keep: tuple[bool, ...] = (True,) * 6  #: sensors shown
    missing: float = 0.0  #: share of the sensors that is hidden at random on top
    image: str = "shown"  #: "shown", "hidden" or "noise"


#: The patterns every report has.
MASKS: Final[tuple[Mask, ...]] = (
    Mask("all"),
    Mask("sensors only", image="hidden"),
    *(Mask(f"no {name}", tuple(other != name for other in POLLUTANTS)) for name in POLLUTANTS),
    Mask("no pm", tuple(name not in ("pm25", "pm10") for name in POLLUTANTS)),
    Mask("no pm, no image", tuple(name not in ("pm25", "pm10") for name in POLLUTANTS), image="hidden"),
    Mask("20 % missing", missing=0.2),
    Mask("50 % missing", missing=0.5),
    Mask("80 % missing", missing=0.8),
    Mask("50 % missing, no image", missing=0.5, image="hidden"),
    Mask("image only", (False,) * 6),
    Mask("image is noise", image="noise"),
)


class EvaluationReport(NamedTuple):
    """`summary` is plain JSON data; `predictions` has one plain row per window with every input shown."""

    summary: dict[str, Any]
    predictions: list[dict[str, Any]]


def read_windows(
    bundle: Bundle,
    groups: Sequence[Group],
    progress: Progress,
    threads: int = 1,
    problems: list[str] | None = None,
) -> Windows:
    """Decode, encode and pool the frames of every group. Refused frames are counted, not guessed.

    `problems` is told of files that cannot be read; they count as refused.
    """
    encoder, size = Encoder(bundle, threads), bundle.manifest.input
    embedding = np.zeros((len(groups), EMBEDDING_SIZE), np.float32)
    statistics = np.full((len(groups), HAZE_SIZE), np.nan, np.float32)
    used, refused = [], []
    total, done = sum(len(group.frames) for group in groups), 0
    for row, group in enumerate(groups):
        vectors, plain, bad = [], [], 0
        for index, path in enumerate(group.frames):
            done += 1
            try:
                frame = decode(path.read_bytes(), size.width, size.height)
            except OSError as error:
                if problems is not None:
                    problems.append(f"frame {path} cannot be read: {error.strerror or error}; left out")
                bad += 1
                continue
            except ImageRefused:
                bad += 1
                continue
            # The gate of the vision stage: what a worker would not use is not used here either.
            if not judge(frame, group.taken(index), group.position).usable:
                bad += 1
                continue
            whole = frame.whole
            vectors.append(encoder.encode([whole])[0].embedding)
            plain.append(haze(whole))
        if vectors:
            embedding[row], statistics[row] = pool(vectors), pool(plain)
        used.append(len(vectors))
        refused.append(bad)
        progress("encoding frames", done, total)
    return Windows(
        embedding=embedding,
        image_present=np.array(used) > 0,
        haze=statistics,
        sensors=np.array([group.readings for group in groups], np.float32).reshape(-1, 6),
        hour=np.array([solar_hour(group.time, group.site.longitude) for group in groups], np.float32),
        aqi=np.array([group.aqi for group in groups], np.float64),
        site=tuple(group.site.station for group in groups),
        time=tuple(group.time.isoformat() for group in groups),
        frames_used=tuple(used),
        frames_refused=tuple(refused),
    )


def masked(
    windows: Windows, mask: Mask, noise: tuple[Float32, Float32], seed: int
) -> tuple[Windows, NDArray[np.int64]]:
    """Windows with a pattern applied, rows with nothing left removed; and the original row of each.

    Args:
        noise: (embedding, haze) of a picture of noise.
    """
    repeats = _REPEATS if mask.missing else 1
    rows = np.tile(np.arange(len(windows.aqi)), repeats)
    rng = np.random.default_rng(seed)
    keep = np.array(mask.keep)[None] & (rng.random((len(rows), 6)) >= mask.missing)
    sensors = np.where(keep, windows.sensors[rows], np.float32(np.nan))
    image = windows.image_present[rows] & (mask.image != "hidden")
    embedding, statistics = windows.embedding[rows], windows.haze[rows]
    if mask.image == "noise":
        image = np.ones(len(rows), dtype=bool)
        embedding = np.broadcast_to(noise[0], embedding.shape)
        statistics = np.broadcast_to(noise[1], statistics.shape)
    left = image | ~np.isnan(sensors).all(axis=1)
    changed = windows._replace(
        embedding=embedding[left],
        image_present=image[left],
        haze=statistics[left],
        sensors=sensors[left],
        hour=windows.hour[rows][left],
        aqi=windows.aqi[rows][left],
    )
    return changed, rows[left]


def noise_picture(width: int, height: int) -> NDArray[np.uint8]:
    """Uniform noise, always the same."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def last_values(windows: Windows) -> Float64:
    """The AQI of the same site's window before, NaN for the first (windows are in time order)."""
    last: dict[str, float] = {}
    result = np.full(len(windows.aqi), np.nan)
    for row, (site, aqi) in enumerate(zip(windows.site, windows.aqi, strict=True)):
        result[row] = last.get(site, math.nan)
        if not math.isnan(aqi):
            last[site] = float(aqi)
    return result


def score_windows(
    windows: Windows,
    predict: Callable[[Windows, NDArray[np.int64]], HeadOutput],
    noise: tuple[Float32, Float32],
    training_mean: float,
    rivals: Mapping[str, Callable[[Windows, NDArray[np.int64]], Float64]] | None = None,
    masks: Sequence[Mask] = MASKS,
    calculators: Sequence[str] = CALCULATORS,
) -> dict[str, Any]:
    """Scores per mask pattern, of `predict` and its rivals, with 90 % bootstrap intervals over windows.

    Args:
        predict: from masked windows and their original row numbers to estimates.
        rivals: further predictors of the AQI by name.

    Where a predictor has nothing to say (NaN) the training mean stands in; coverage is of what was said, and
    so are the scores by site.
    """
    truth_known = ~np.isnan(windows.aqi)
    last = last_values(windows)
    result: dict[str, Any] = {}
    for number, mask in enumerate(masks):
        shown, rows = masked(windows, mask, noise, seed=1000 + number)
        output = predict(shown, rows)
        estimates: dict[str, Float64] = {"model": output.aqi.astype(np.float64)}
        for name in calculators:
            estimates[f"calculator {name}"] = calculate(name, shown.sensors)
        estimates["training mean"] = np.full(len(rows), training_mean)
        estimates["last value"] = last[rows]
        for name, rival in (rivals or {}).items():
            estimates[name] = rival(shown, rows)
        valid = truth_known[rows]
        entry: dict[str, Any] = {
            "windows": len(np.unique(rows[valid])),
            "rows": int(valid.sum()),
            "aqi": {},
        }
        if valid.any():
            for name, estimate in estimates.items():
                filled = np.where(np.isnan(estimate), training_mean, estimate)
                entry["aqi"][name] = _with_intervals(windows.aqi[rows][valid], filled[valid], rows[valid])
            inside = (windows.aqi[rows] >= output.aqi_lo) & (windows.aqi[rows] <= output.aqi_hi)
            said = valid & ~np.isnan(output.aqi)
            entry["said"] = round(float(said.sum() / valid.sum()), 4)
            if said.any():
                entry["coverage"] = float(inside[said].mean())
                entry["interval_width"] = float((output.aqi_hi - output.aqi_lo)[said].mean())
            entry["sites"] = _by_site(
                np.array(windows.site)[rows], rows, windows.aqi[rows], output.aqi.astype(np.float64)
            )
        entry["sensors"] = _imputation(windows.sensors[rows], shown.sensors, output)
        entry["pattern_share"] = {
            name: float((output.pattern == index).mean())
            for index, name in enumerate(PATTERNS)
            if (output.pattern == index).any()
        }
        result[mask.name] = entry
    return result


def _with_intervals(truth: Float64, estimate: Float64, group: NDArray[np.int64]) -> dict[str, Any]:
    """Scores with intervals from resampling whole groups (a group's repeats stay together)."""
    unique, inverse = np.unique(group, return_inverse=True)
    squared = (estimate - truth) ** 2
    hit = aqi_class(estimate) == aqi_class(truth)

    def over(value: NDArray[Any]) -> tuple[Float64, Float64]:
        return np.bincount(inverse, value, len(unique)).astype(np.float64), np.bincount(
            inverse, minlength=len(unique)
        ).astype(np.float64)

    (error_sum, count), (hits, _) = over(squared), over(hit)
    plain: dict[str, Any] = {name: _plain(value) for name, value in scores(truth, estimate)._asdict().items()}
    intervals = {
        "rmse": bootstrap(len(unique), lambda draw: math.sqrt(error_sum[draw].sum() / count[draw].sum())),
        "accuracy": bootstrap(len(unique), lambda draw: float(hits[draw].sum() / count[draw].sum())),
    }
    for name, interval in intervals.items():
        plain[f"{name}_interval"] = [_plain(interval.lo), _plain(interval.hi)]
    return plain


def _plain(value: float) -> float | None:
    """What JSON can say: a truth beyond all bounds has a square that is no number any more."""
    return round(float(value), 4) if math.isfinite(value) else None


def _exact(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None


def _imputation(truth: Float32, shown: Float32, output: HeadOutput) -> dict[str, Any]:
    """Errors of the concentrations that were hidden but are known."""
    result: dict[str, Any] = {}
    hidden = np.isnan(shown) & ~np.isnan(truth) & ~np.isnan(output.sensors)
    for column, name in enumerate(POLLUTANTS):
        rows = hidden[:, column]
        if not rows.any():
            continue
        true, estimate = truth[rows, column], output.sensors[rows, column]
        inside = (true >= output.sensors_lo[rows, column]) & (true <= output.sensors_hi[rows, column])
        result[name] = {
            "n": int(rows.sum()),
            "rmse": _plain(float(np.sqrt(((estimate - true) ** 2).mean()))),
            "mae": _plain(float(np.abs(estimate - true).mean())),
            "log_rmse": _plain(
                float(np.sqrt(((np.log1p(estimate) - np.log1p(np.maximum(true, 0))) ** 2).mean()))
            ),
            "coverage": _plain(float(inside.mean())),
        }
    return result


def bundle_predictor(head: Head) -> Callable[[Windows, NDArray[np.int64]], HeadOutput]:
    """`predict` of an exported head."""

    def predict(shown: Windows, rows: NDArray[np.int64]) -> HeadOutput:  # noqa: ARG001
        return head.predict(shown.embedding, shown.image_present, shown.sensors, shown.haze, shown.hour)

    return predict


def evaluate(
    bundle: Bundle,
    folder: Path,
    layout: str = "india-nepal",
    progress: Progress = lambda *_: None,
    threads: int = 1,
    standard: str | None = None,
    read: FolderReader | None = None,
) -> EvaluationReport:
    """Score `bundle` on every group of `folder` as one test set.

    Whether it was trained on these groups is the caller's to know.

    Args:
        layout: "india-nepal", or "layout" for the plain one.
        standard: AQI standard of the truth, recomputed from the readings. None: what the folder states, and
            where it states none (the plain layout) the scale the bundle was trained on, or else US EPA 2024.
        read: gives the hours of a folder in the plain layout, which no other one needs.

    Raises:
        LayoutError: unknown layout, or the folder does not follow it, or has no groups.
    """
    if layout == "india-nepal":
        groups, problems = without_refused(india_nepal(folder))
        groups = [_with_possible_aqi(group, problems) for group in groups]
    elif layout == "layout" and read is not None:
        histories, problems = read(folder)
        groups = list(hours(histories))
        trained = str(bundle.manifest.training.configuration.get("target", STATED))
        standard = standard or (DEFAULT_STANDARD if trained == STATED else trained)
    else:
        raise LayoutError(f"layout {layout!r} is not known to evaluate; known: india-nepal, layout")
    if not groups:
        raise LayoutError(f"{folder} has no groups: no frames and no readings")
    if standard is not None:
        groups = with_target(groups, standard)
    windows = read_windows(bundle, groups, progress, threads, problems)
    picture = noise_picture(bundle.manifest.input.width, bundle.manifest.input.height)
    noise = (Encoder(bundle).encode([picture])[0].embedding, haze(picture))
    head = Head(bundle)
    mean = float(bundle.manifest.training.configuration.get("aqi_mean", math.nan))
    calculators = CALCULATORS if standard in (None, *CALCULATORS) else (*CALCULATORS, str(standard))
    by_mask = score_windows(windows, bundle_predictor(head), noise, mean, calculators=calculators)
    rows = windows.image_present | ~np.isnan(windows.sensors).all(axis=1)
    output = head.predict(
        windows.embedding[rows],
        windows.image_present[rows],
        windows.sensors[rows],
        windows.haze[rows],
        windows.hour[rows],
    )
    predictions = []
    for place, row in enumerate(np.flatnonzero(rows)):
        predictions.append(
            {
                "station": windows.site[row],
                "time": windows.time[row],
                "frames": windows.frames_used[row],
                "aqi_true": _plain(windows.aqi[row]),
                "aqi": _exact(output.aqi[place]),
                "aqi_lo": _exact(output.aqi_lo[place]),
                "aqi_hi": _exact(output.aqi_hi[place]),
                "sensors": dict(zip(POLLUTANTS, map(_exact, output.sensors[place]), strict=True)),
                "sensors_lo": dict(zip(POLLUTANTS, map(_exact, output.sensors_lo[place]), strict=True)),
                "sensors_hi": dict(zip(POLLUTANTS, map(_exact, output.sensors_hi[place]), strict=True)),
            }
        )
    summary = {
        "bundle": bundle.id,
        "layout": layout,
        "target": describe(standard or STATED),
        "left_out": problems,
        "windows": len(groups),
        "frames": int(sum(windows.frames_used)),
        "frames_refused": int(sum(windows.frames_refused)),
        "sites": sorted(set(windows.site)),
        "split": "none: every group of the folder, as one test set",
        "masks": by_mask,
        "sites_all_inputs": by_mask["all"].get("sites", {}),
    }
    return EvaluationReport(summary, predictions)


def _with_possible_aqi(group: Group, problems: list[str]) -> Group:
    """The group; without the stated AQI where that is none."""
    if math.isnan(group.aqi) or _AQI_SPAN[0] <= group.aqi <= _AQI_SPAN[1]:
        return group
    problems.append(
        f"{group.site.station} {format_time(group.time)}: AQI {group.aqi:g} is outside {_AQI_SPAN[0]:g} to"
        f" {_AQI_SPAN[1]:g}; left out"
    )
    return group._replace(aqi=math.nan)


def _by_site(
    site: NDArray[np.str_], window: NDArray[np.int64], truth: Float64, estimate: Float64
) -> dict[str, Any]:
    """Scores per site, of rows with truth and estimate: a mean over sites hides the one that fails."""
    result = {}
    known = ~np.isnan(truth) & ~np.isnan(estimate)
    for name in sorted(set(site)):
        chosen = (site == name) & known
        if chosen.any():
            found = scores(truth[chosen], estimate[chosen])._asdict()
            result[str(name)] = {
                "windows": len(np.unique(window[chosen])),
                **{score: _plain(value) for score, value in found.items()},
            }
    return result
