"""The evaluation report of a training run: every model, every split, every mask pattern (the `train` extra).

Three protocols: a random split of frames (which leaks: frames of one video fall on both sides), folds of
whole (site, date, hour) groups, and leave-one-site-out. Rivals see exactly what the model sees.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model.bundle.bundle import EMBEDDING_SIZE
from model.bundle.runtime import HeadOutput
from model.bundle.targets import calculate
from model.evaluation.evaluate import CALCULATORS, MASKS, Windows, score_windows
from model.evaluation.metrics import CLASS_NAMES, Scores, aqi_class, scores
from model.evaluation.progress import Progress
from model.training.batches import hour_circle
from model.training.config import TrainConfig, load_config
from model.training.crossval import (
    NOISE,
    Fold,
    Residuals,
    calibration_masks,
    cross_validate,
    fold_predictor,
    grouped_folds,
    held_out_coverage,
    site_folds,
    windows_of,
)
from model.training.finetune import fine_tune
from model.training.frames import FrameTable
from model.training.network import HeadInputs
from model.training.train import Fitted, Projection, Split, fit, principal_components
from schemas.arrays import Float64
from schemas.parameters import POLLUTANTS

__all__ = ["full_report", "leaking_figure", "write_report"]

Rival = Callable[[Windows, NDArray[np.int64]], Float64]

FOLDS: Final = 10
SEEDS: Final = (0, 1, 2)
#: Networks that have one of the two sides only: changes to the head's configuration.
LONE: Final[dict[str, dict[str, bool]]] = {
    "network, sensors only": {"image": False},
    "network, image only": {"sensors": False},
}


def random_split(table: FrameTable, seed: int) -> NDArray[np.int64]:
    """The published split: 0 = train, 1 = validate, 2 = test; 70/15/15 of the frames at random, by class."""
    rng = np.random.default_rng(seed)
    part = np.empty(len(table.group), dtype=np.int64)
    class_of = aqi_class(table.aqi[table.group].astype(np.float64))

    def cut(rows: NDArray[np.int64]) -> None:
        share = np.arange(len(rows)) / len(rows)
        part[rng.permutation(rows)] = np.select([share < 0.70, share < 0.85], [0, 1], 2)

    for one in np.unique(class_of):
        cut(np.flatnonzero(class_of == one))
    if len(np.unique(part)) < 3:  # too few frames of each class for all three parts
        cut(np.arange(len(part)))
    return part


def leaking_figure(table: FrameTable, config: TrainConfig, progress: Progress) -> dict[str, Any]:
    """The published protocol, on three draws of its split: means, each draw, and every model on the first."""
    draws = [random_split(table, seed) for seed in SEEDS]
    tables = [
        table if config.fine_tune is None else fine_tune(table, config, part == 0, progress).table
        for part in draws
    ]
    truth = table.aqi[table.group].astype(np.float64)

    def estimated(draw: int, change: Mapping[str, bool]) -> Float64:
        own, part = tables[draw], draws[draw]
        chosen = config.model_copy(update={"head": config.head.model_copy(update=change)})
        [fitted] = fit(own, chosen, [Split(part == 0, part == 1)], progress)
        return frame_estimates(fitted, own, np.flatnonzero(part == 2))

    def rounded(score: Scores) -> dict[str, float | None]:
        return {key: None if np.isnan(value) else round(value, 4) for key, value in score._asdict().items()}

    fused = [estimated(draw, {}) for draw in range(len(draws))]
    each = [scores(truth[part == 2], estimate) for part, estimate in zip(draws, fused, strict=True)]
    table, part = tables[0], draws[0]
    estimates = {"fused": fused[0]} | {name: estimated(0, change) for name, change in LONE.items()}
    features = _frame_features(table, principal_components(table.features[part == 0], EMBEDDING_SIZE))
    for name, model, columns in (
        ("ridge (sensors, hour, image)", _ridge(), slice(None)),
        ("extra trees (sensors, hour)", _trees(), slice(0, 14)),
        ("extra trees (sensors, hour, image)", _trees(), slice(None)),
    ):
        model.fit(features[part == 0, columns], truth[part == 0])
        estimates[name] = model.predict(features[part == 2, columns])
    mean = float(truth[part == 0].mean())
    for name in CALCULATORS:
        estimate = calculate(name, table.sensors[table.group[part == 2]])
        estimates[f"calculator {name}"] = np.where(np.isnan(estimate), mean, estimate)
    estimates["training mean"] = np.full(int((part == 2).sum()), mean)
    return {
        "frames": {
            name: int((part == index).sum()) for index, name in enumerate(("train", "validate", "test"))
        },
        **rounded(Scores(*np.mean(each, axis=0).tolist())),
        "draws": [rounded(score) for score in each],
        "models": {name: rounded(scores(truth[part == 2], estimate)) for name, estimate in estimates.items()},
    }


def _frame_features(table: FrameTable, projection: Projection) -> Float64:
    """Inputs of the plain models for single frames: 14 of sensors and hour, then the picture."""
    frames = len(table.group)
    return _plain_features(
        table,
        Windows(
            embedding=table.features @ projection.weight + projection.bias,
            image_present=np.ones(frames, dtype=bool),
            haze=table.haze,
            sensors=table.sensors[table.group],
            hour=table.hour[table.group],
            aqi=table.aqi[table.group].astype(np.float64),
            site=(), time=(), frames_used=(), frames_refused=(),
        ),
        np.ones(len(table.aqi), dtype=bool),
        True,
    )  # fmt: skip


def _trees() -> Any:
    return ExtraTreesRegressor(200, random_state=0, n_jobs=1)


def _ridge() -> Any:
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 3, 9)))


def frame_estimates(fitted: Fitted, table: FrameTable, frames: NDArray[np.int64]) -> Float64:
    """AQI of single frames with their group's reading: mean of the members."""
    group = table.group[frames]
    known = ~np.isnan(table.sensors[group])
    one = torch.ones(len(frames), 1)
    total = np.zeros(len(frames))
    for number, head in enumerate(fitted.heads):
        projection = fitted.projection(number)
        x = HeadInputs(
            torch.from_numpy(table.features[frames] @ projection.weight + projection.bias),
            one,
            torch.from_numpy(table.haze[frames]),
            one,
            torch.from_numpy(np.where(known, np.maximum(table.sensors[group], 0), 0).astype(np.float32)),
            torch.from_numpy(known.astype(np.float32)),
            torch.from_numpy(hour_circle(table.hour[group])),
        )
        with torch.no_grad():
            total += head(x).aqi[:, 0].numpy()
    return total / len(fitted.heads)


def _plain_features(
    table: FrameTable, windows: Windows, train: NDArray[np.bool_], image: bool
) -> NDArray[np.float64]:
    """Inputs of ridge and trees: log concentrations (median where missing), masks, hour; the picture."""
    logs = np.log1p(np.maximum(table.sensors[train], 0))
    median = [np.median(column[~np.isnan(column)]) if np.isfinite(column).any() else 0 for column in logs.T]
    missing = np.isnan(windows.sensors)
    log = np.where(missing, median, np.log1p(np.maximum(windows.sensors, 0)))
    parts = [log, missing, hour_circle(windows.hour)]
    if image:
        there = windows.image_present[:, None]
        parts += [np.where(there, windows.haze, 0), np.where(there, windows.embedding[:, :8], 0)]
    return np.concatenate(parts, axis=1).astype(np.float64)


def plain_rivals(folds: Sequence[Fold]) -> dict[str, Rival]:
    """Ridge and extra trees, fitted on each fold's training groups with every input shown."""

    def rival(make: Callable[[], Any], image: bool) -> Rival:
        models, embeddings, noises = [], [], []
        for fold in folds:
            table, train = fold.table, ~fold.held_out
            windows = windows_of(table, fold.projection)
            features = _plain_features(table, windows, train, image)
            models.append(make().fit(features[train], table.aqi[train]))
            embeddings.append(windows.embedding)
            noises.append(table.noise @ fold.projection.weight + fold.projection.bias)

        def predict(shown: Windows, rows: NDArray[np.int64]) -> Float64:
            result = np.full(len(rows), np.nan)
            is_noise = shown.image_present & (shown.embedding == 0).all(axis=1)
            for number, fold in enumerate(folds):
                mine = fold.held_out[rows]
                if mine.any():
                    embedding = np.where(is_noise[:, None], noises[number], embeddings[number][rows])
                    seen = shown._replace(embedding=embedding.astype(np.float32))
                    features = _plain_features(fold.table, seen, ~fold.held_out, image)
                    result[mine] = models[number].predict(features[mine])
            return result

        return predict

    return {
        "ridge (sensors, hour, image)": rival(_ridge, True),
        "extra trees (sensors, hour)": rival(_trees, False),
        "extra trees (sensors, hour, image)": rival(_trees, True),
    }


def network_rival(predict: Callable[[Windows, NDArray[np.int64]], HeadOutput]) -> Rival:
    """Another network's AQI as a rival."""
    return lambda shown, rows: predict(shown, rows).aqi.astype(np.float64)


def full_report(
    table: FrameTable,
    config: TrainConfig,
    progress: Progress,
    out: Path,
    components: dict[bytes, Projection] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(report, interval tables for the bundle); also writes report.json, report.md and plots to `out`."""
    components = {} if components is None else components
    mean = float(table.aqi.mean())
    report: dict[str, Any] = {
        "configuration": config.model_dump(mode="json"),
        "windows": len(table.aqi),
        "frames": len(table.group),
        "sites": {site: int(np.sum(np.array(table.site) == site)) for site in sorted(set(table.site))},
        "random split (leaks)": leaking_figure(
            table, load_config("paper", backbone=config.backbone, fine_tune=config.fine_tune), progress
        ),
    }
    folds_of = [grouped_folds(len(table.aqi), min(FOLDS, len(table.aqi)), seed) for seed in SEEDS]

    def crossed(fold_of: NDArray[np.int64], change: Mapping[str, bool] | None = None) -> list[Fold]:
        chosen = config.model_copy(update={"head": config.head.model_copy(update=change or {})})
        return cross_validate(table, chosen, fold_of, progress, components)

    def scored(folds: Sequence[Fold], fold_of: NDArray[np.int64]) -> dict[str, Any]:
        rivals = plain_rivals(folds)
        for name, change in LONE.items():
            rivals[name] = network_rival(fold_predictor(crossed(fold_of, change)))
        return score_windows(windows, fold_predictor(folds, tables), NOISE, mean, rivals)

    folds = crossed(folds_of[0])
    residuals = Residuals(table, folds, calibration_masks())
    tables = residuals.tables()
    windows = windows_of(table, folds[0].projection)
    report["grouped"] = scored(folds, folds_of[0])
    shown = [mask for mask in MASKS if mask.image != "noise"]
    report["coverage on groups not calibrated on"] = held_out_coverage(table, folds, residuals, shown)
    report["grouped, by seed"] = {}
    for seed, fold_of in zip(SEEDS, folds_of, strict=True):
        other = folds if seed == SEEDS[0] else crossed(fold_of)
        entry = score_windows(windows, fold_predictor(other), NOISE, mean, masks=MASKS[:1], calculators=())
        report["grouped, by seed"][str(seed)] = entry["all"]["aqi"]["model"]
    sites = site_folds(table)
    # Leaving a site out teaches something only where another one has a camera.
    if len({table.site[group] for group in np.unique(table.group)}) > 1:
        report["leave one site out"] = scored(crossed(sites), sites)
    output = fold_predictor(folds, tables)(windows, np.arange(len(table.aqi)))
    write_report(report, table, output, out)
    return report, tables


def write_report(report: Mapping[str, Any], table: FrameTable, output: HeadOutput, out: Path) -> None:
    """report.json, report.md and plots."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (out / "report.md").write_text(_markdown(report), encoding="utf-8")
    _plots(table, output, out)


def _markdown(report: Mapping[str, Any]) -> str:
    random = report["random split (leaks)"]
    r2 = "–" if random["r2"] is None else format(random["r2"], ".3f")
    lines = [
        f"# Evaluation of {report['configuration']['name']} ({report['configuration']['backbone']})",
        "",
        f"{report['windows']} windows of {report['frames']} frames at {len(report['sites'])} sites."
        " RMSE in AQI points / accuracy of the six classes; [90 % bootstrap interval of the RMSE].",
        "",
        "## Random split of frames: leaks, for comparison with the literature only",
        "",
        f"RMSE {random['rmse']:.2f}, accuracy {100 * random['accuracy']:.2f} %, MAE {random['mae']:.2f},"
        f" R2 {r2} on {random['frames']['test']} test frames (the published configuration;"
        f" means of {len(random['draws'])} draws of the split: "
        + ", ".join(f"{draw['rmse']:.2f} / {100 * draw['accuracy']:.1f} %" for draw in random["draws"])
        + "). Beside it, on the first draw: "
        + "; ".join(
            f"{name} {score['rmse']:.1f} / {100 * score['accuracy']:.0f} %"
            for name, score in random["models"].items()
            if name != "fused"
        )
        + ".",
        "",
        "Grouped, other fold seeds: "
        + ", ".join(
            f"{entry['rmse']:.1f} / {100 * entry['accuracy']:.0f} %"
            for entry in report["grouped, by seed"].values()
        ),
    ]
    for protocol in (name for name in ("grouped", "leave one site out") if name in report):
        entries = report[protocol]
        names = list(entries["all"]["aqi"])
        lines += [
            "",
            f"## {protocol.capitalize()}",
            "",
            "| inputs | " + " | ".join(names) + " | coverage |",
            "|---|" + "---|" * (len(names) + 1),
        ]
        for mask, entry in entries.items():
            cells = []
            for name in names:
                score = entry["aqi"][name]
                cell = f"{score['rmse']:.1f} / {100 * score['accuracy']:.0f} %"
                if name == "model":
                    cell += f" [{score['rmse_interval'][0]:.0f}, {score['rmse_interval'][1]:.0f}]"
                cells.append(cell)
            lines.append(f"| {mask} | " + " | ".join(cells) + f" | {100 * entry['coverage']:.0f} % |")
        lines += [
            "",
            "By site, all inputs shown, RMSE (windows): "
            + "; ".join(
                f"{site} {score['rmse']:.1f} ({score['windows']})"
                for site, score in entries["all"].get("sites", {}).items()
            )
            + ".",
        ]
        lines += [
            "",
            "Imputation, RMSE of log(1 + ug/m3) / MAE in ug/m3 / coverage of the 90 % interval:",
            "",
        ]
        lines += ["| inputs | " + " | ".join(POLLUTANTS) + " |", "|---|" + "---|" * len(POLLUTANTS)]
        for mask, entry in entries.items():
            if entry["sensors"]:
                cells = [
                    f"{s['log_rmse']:.2f} / {s['mae']:.0f} / {100 * s['coverage']:.0f} %"
                    if (s := entry["sensors"].get(name))
                    else ""
                    for name in POLLUTANTS
                ]
                lines.append(f"| {mask} | " + " | ".join(cells) + " |")
    lines += ["", "## Coverage of the 90 % intervals on groups that neither trained nor calibrated them", ""]
    lines += [
        f"- {name}: {100 * value:.0f} %"
        for name, value in report["coverage on groups not calibrated on"].items()
    ]
    return "\n".join(lines) + "\n"


def _plots(table: FrameTable, output: HeadOutput, out: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    truth, sites = table.aqi.astype(np.float64), np.array(table.site)
    figure, axes = plt.subplots(2, 2, figsize=(11, 9))
    for site in sorted(set(table.site)):
        mine = sites == site
        error = [output.aqi[mine] - output.aqi_lo[mine], output.aqi_hi[mine] - output.aqi[mine]]
        axes[0, 0].errorbar(truth[mine], output.aqi[mine], error, fmt="o", ms=4, lw=0.5, label=site)
    limit = float(truth.max()) * 1.05
    axes[0, 0].plot([0, limit], [0, limit], "k-", lw=0.8)
    axes[0, 0].set(
        title="Estimated and true AQI, grouped folds, 90 % intervals", xlabel="true", ylabel="estimate"
    )
    axes[0, 0].legend(fontsize=7)
    matrix = np.zeros((6, 6), dtype=np.int64)
    np.add.at(matrix, (aqi_class(truth), aqi_class(output.aqi.astype(np.float64))), 1)
    axes[0, 1].imshow(matrix, cmap="Blues")
    for (row, column), count in np.ndenumerate(matrix):
        axes[0, 1].text(column, row, str(count), ha="center", va="center")
    axes[0, 1].set(title="Classes: true (rows), estimated", xticks=range(6), yticks=range(6))
    axes[0, 1].set_yticklabels([name[:14] for name in CLASS_NAMES], fontsize=7)
    half = np.maximum(output.aqi_hi - output.aqi, 1.0)
    ratio = np.sort(np.abs(truth - output.aqi) / half)
    axes[1, 0].plot(ratio, np.arange(1, len(ratio) + 1) / len(ratio))
    axes[1, 0].axvline(1, color="k", lw=0.8)
    axes[1, 0].axhline(0.9, color="k", lw=0.8)
    axes[1, 0].set(title="Calibration: |error| / half interval", xlabel="ratio", ylabel="share of windows")
    names = sorted(set(table.site))
    errors = [float(np.sqrt(((output.aqi - truth)[sites == name] ** 2).mean())) for name in names]
    axes[1, 1].barh(names, errors)
    axes[1, 1].set(title="RMSE by site, grouped folds", xlabel="AQI points")
    figure.tight_layout()
    figure.savefig(out / "report.png", dpi=110)
    plt.close(figure)
