"""Which encoder to ship: size, milliseconds a frame, peak memory and grouped RMSE, fp32 beside int8.

Needs the train extra and `../shared/data/india-nepal`. The int8 encoders are scored by the same folds:
every fold's heads, trained on exact features, read the features that the int8 graph gives. Baseline: fp32
MobileNetV2. A backbone whose pretrained weights cannot be had is left out, with the reason.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--backbones", "mobilenet_v2", "--every", "10", "--folds", "3", "--epochs", "1")
#: What it needs beside a checkout, as markers of tests.
NEEDS: Final = ("realdata", "train")

BACKBONES = ("mobilenet_v2", "efficientnet_lite0", "resnet18", "efficientnet_b0")
_TIMED_FRAMES = 40


def _time(bundle_path: Path, threads: int) -> dict[str, float]:
    """In a process of its own, so that the peak memory is this encoder's."""
    code = "import sys; from benchmarks.edge import measure; measure(sys.argv[1], int(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(bundle_path), str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _peak_kib() -> int:
    """Peak memory of this process image. (getrusage's maximum outlives exec and would be the parent's.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM: peak memory can be measured on Linux only")


def measure(bundle_path: str, threads: int) -> None:
    """Median milliseconds a 224 x 224 frame and peak memory of this process, as JSON."""
    from model.bundle.bundle import Bundle
    from model.bundle.runtime import Encoder

    before = _peak_kib()
    encoder = Encoder(Bundle.load(bundle_path), threads)
    frame = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    times = []
    for _ in range(_TIMED_FRAMES):
        start = time.perf_counter()
        encoder.encode([frame])
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"ms": float(np.median(times)), "mb": (_peak_kib() - before) / 1024}))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench edge", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/india-nepal"))
    parser.add_argument("--cache", type=Path, default=Path(".skyfuse/features"))
    parser.add_argument("--seeds", type=int, default=1, help="draws of the folds")
    parser.add_argument("--backbones", nargs="+", default=BACKBONES, choices=BACKBONES)
    parser.add_argument("--every", type=int, default=1, help="only each so-manieth of the windows")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=20, help="of the encoder that is exported")
    arguments = parser.parse_args(argv)

    from backfill.hourly import read_folder
    from datasets.groups import india_nepal
    from model.bundle.runtime import Encoder
    from model.errors import WeightsError
    from model.evaluation.evaluate import MASKS, score_windows
    from model.training.config import load_config
    from model.training.crossval import (
        NOISE,
        Fold,
        Residuals,
        build_ensemble,
        cross_validate,
        fold_predictor,
        grouped_folds,
        windows_of,
    )
    from model.training.export import Trained, export, quantise
    from model.training.frames import FrameTable, read_frames, usable_picture
    from model.training.run import Folder, calibration_frames
    from model.training.train import Split, fit

    def progress(what: str, done: int, total: int) -> None:
        if done == total:
            print(f"  {what}: {total}", file=sys.stderr)

    groups = list(india_nepal(arguments.data))[:: arguments.every]
    frames = [(group, place) for group in groups for place in range(len(group.frames))]
    pictures = calibration_frames(Folder(arguments.data, "india-nepal", read_folder))
    rows: list[dict[str, Any]] = []
    for backbone in arguments.backbones:
        config = load_config("robust", backbone=backbone, members=4)
        try:
            table = read_frames(groups, backbone, arguments.cache, progress)
        except WeightsError as error:
            print(f"{backbone}: left out: {error}", file=sys.stderr)
            continue
        draws = [
            cross_validate(table, config, grouped_folds(len(table.aqi), arguments.folds, seed), progress)
            for seed in range(arguments.seeds)
        ]

        def grouped(seen: FrameTable, draws: list[list[Fold]] = draws) -> tuple[float, float]:
            scored = []
            for folds in draws:
                predict = fold_predictor([fold._replace(table=seen) for fold in folds])
                windows = windows_of(seen, folds[0].projection)
                entry = score_windows(windows, predict, NOISE, 0.0, masks=MASKS[:1], calculators=())
                scored.append(entry["all"]["aqi"]["model"])
            rmse, accuracy = (float(np.mean([one[name] for one in scored])) for name in ("rmse", "accuracy"))
            return rmse, accuracy

        everything = np.ones(len(table.aqi), dtype=bool)
        shipped = config.model_copy(update={"epochs": arguments.epochs})
        [fitted] = fit(table, shipped, [Split(everything)], progress)
        ensemble, projection = build_ensemble(fitted, table, everything)
        score = {"rmse": 0.0, "accuracy": 0.0, "rmse_interval": [0.0, 0.0]}
        masks = ("all", "sensors only", "no pm25", "no pm", "50 % missing", "80 % missing", "image only")
        protocol = {mask: {"aqi": {"model": score}, "coverage": 0.0} for mask in (*masks, "image is noise")}
        trained = Trained(
            config, ensemble, projection, Residuals(table, draws[0], MASKS[:2]).tables(),
            {"data": "benchmark", "licence": "none", "groups": len(table.aqi), "frames": len(table.group),
             "sites": [], "split": "none", "remarks": "", "aqi_mean": 0.0, "aqi_scale": "",
             "target": "stated"},
            {"random split (leaks)": score, "grouped": protocol, "leave one site out": protocol,
             "grouped, by seed": {"0": score}},
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as scratch:
            exact = export(Path(scratch) / "fp32", trained, "edge", "0")
            small = quantise(exact, Path(scratch) / "int8", pictures)
            encoder, features = Encoder(small), []
            for number, (group, place) in enumerate(frames):
                picture = usable_picture(group, place)
                if not isinstance(picture, str):
                    features.append(encoder.feature_map(picture)[0].mean(axis=(1, 2)))
                progress(f"{backbone} in int8", number + 1, len(frames))
            rough = table._replace(features=np.stack(features).astype(np.float32))
            versions = (("fp32", exact, table), ("int8", small, rough))
            for precision, bundle, seen in versions:
                rmse, accuracy = grouped(seen)
                one = _time(Path(scratch) / precision, 1)
                two = _time(Path(scratch) / precision, 2)
                rows.append(
                    {
                        "encoder": f"{backbone} {precision}", "rmse": rmse, "accuracy": accuracy,
                        "mb": len(bundle.files["encoder.onnx"]) / 1e6, "ms1": one["ms"], "ms2": two["ms"],
                        "peak": one["mb"],
                    }
                )  # fmt: skip
                print(f"  {rows[-1]}", file=sys.stderr)
    print("| encoder | grouped RMSE / accuracy | MB | ms a frame, 1 thread | 2 threads | peak memory, MB |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['encoder']} | {row['rmse']:.1f} / {100 * row['accuracy']:.0f} % | {row['mb']:.1f}"
            f" | {row['ms1']:.1f} | {row['ms2']:.1f} | {row['peak']:.0f} |"
        )
    best = min(rows, key=lambda row: row["ms1"])
    baseline = rows[0]["ms1"]
    print(
        json.dumps(
            {
                "name": "edge", "value": round(best["ms1"], 2), "unit": "ms/frame",
                "baseline": round(baseline, 2), "ratio": round(best["ms1"] / baseline, 3),
                "encoder": best["encoder"],
            }
        )
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
