"""Evaluation of the shipped bundle: masks, rivals, the report, and the command that prints it."""

import csv
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from camera.haze import haze
from camera.image import decode
from camera.sun import solar_hour
from cli.evaluate import evaluate_command
from datasets.errors import LayoutError
from datasets.groups import Group, Site, india_nepal
from model.bundle.bundle import Bundle
from model.bundle.gradcam import Explainer, overlay_png
from model.bundle.runtime import Encoder, Head, pool
from model.bundle.targets import calculate
from model.evaluation.evaluate import (
    MASKS,
    EvaluationReport,
    Mask,
    Windows,
    evaluate,
    last_values,
    masked,
    read_windows,
)
from tests.datasets.test_groups import HEADER, REAL


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def scene(seed: int, fog: float) -> Image.Image:
    """Blocks of colour behind fog, with the grain of a real camera."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (14, 14, 3)).repeat(16, axis=0).repeat(16, axis=1)
    seen = blocks * (1 - fog) + 210 * fog + rng.normal(0, 3, (224, 224, 1))
    return Image.fromarray(np.round(seen).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five moments at two sites in the india-nepal layout; the last has a broken frame and no other."""
    root = tmp_path_factory.mktemp("set")
    (root / "images").mkdir()
    rows = []
    for moment in range(5):
        site = ("Mumbai", "ITO, Delhi")[moment % 2]
        for frame in range(1 if moment == 4 else 3):
            name = f"{moment}-{frame}.jpg"
            scene(10 * moment + frame, 0.1 + 0.15 * moment).save(root / "images" / name, quality=95)
            date = ["2023", "3", str(moment + 1), "9:00"]
            particles = [str(40 * moment + 20), str(60 * moment + 30)]
            gases = ["20", "90", "", "NA" if moment else "30"]  # O3, CO, SO2, NO2
            rows.append([site, name, *date, str(50 * moment + 40), *particles, *gases, "x"])
    (root / "images" / "4-0.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    with (root / "labels.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([HEADER, *rows])
    return root


def test_predictions_are_what_the_run_time_gives_step_by_step(bundle: Bundle, folder: Path) -> None:
    report = evaluate(bundle, folder)
    assert report.summary["windows"] == 5
    assert report.summary["frames"] == 12
    assert report.summary["frames_refused"] == 1
    encoder, head = Encoder(bundle), Head(bundle)
    for group, row in zip(india_nepal(folder), report.predictions, strict=True):
        good = [path for path in group.frames if path.name != "4-0.jpg"]
        frames = [decode(path.read_bytes(), 224, 224).whole for path in good]
        there = bool(frames)
        embedding = pool([result.embedding for result in encoder.encode(frames)]) if there else np.zeros(128)
        statistics = pool([haze(frame) for frame in frames]) if there else np.full(20, np.nan)
        output = head.predict(
            embedding[None].astype(np.float32),
            np.array([there]),
            np.array([group.readings], np.float32),
            statistics[None].astype(np.float32),
            np.array([solar_hour(group.time, group.site.longitude)], np.float32),
        )
        assert row["aqi"] == float(output.aqi[0])
        assert row["sensors"]["pm25"] == float(output.sensors[0, 0])
        assert (row["station"], row["frames"]) == (group.site.station, len(frames))


def test_every_mask_pattern_is_scored_beside_its_rivals(bundle: Bundle, folder: Path) -> None:
    masks = evaluate(bundle, folder).summary["masks"]
    assert list(masks) == [mask.name for mask in MASKS]
    for name, entry in masks.items():
        assert {"model", "training mean", "last value", "calculator us-epa-2024"} <= set(entry["aqi"])
        gases_alone = name == "no pm, no image"
        assert (entry["said"] == 0) == gases_alone  # the shipped bundle does not read them
        assert gases_alone or 0 <= entry["coverage"] <= 1
        assert entry["aqi"]["model"]["rmse"] >= entry["aqi"]["model"]["mae"] >= 0
        # The window whose only frame is broken has nothing left without its sensors.
        assert entry["windows"] == (4 if name == "image only" else 5)
    assert set(masks["no pm25"]["sensors"]) == {"pm25"}
    assert set(masks["all"]["sensors"]) == set()
    assert set(masks["image only"]["sensors"]) == {"pm25", "pm10"}


def windows(rows: int, seed: int = 0) -> Windows:
    rng = np.random.default_rng(seed)
    sensors = rng.gamma(2, 30, (rows, 6)).astype(np.float32)
    sensors[rng.random((rows, 6)) < 0.2] = np.nan
    return Windows(
        rng.normal(size=(rows, 128)).astype(np.float32),
        rng.random(rows) < 0.7,
        rng.random((rows, 20)).astype(np.float32),
        sensors,
        rng.uniform(0, 24, rows).astype(np.float32),
        rng.uniform(10, 400, rows),
        tuple("ab"[index % 2] for index in range(rows)),
        tuple(str(index) for index in range(rows)),
        (1,) * rows,
        (0,) * rows,
    )


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: mask.name)
def test_a_mask_hides_what_it_says_and_never_shows_what_was_blank(mask: Mask) -> None:
    data = windows(200)
    noise = (np.full(128, 9, np.float32), np.full(20, 9, np.float32))
    shown, rows = masked(data, mask, noise, seed=1)
    assert np.isnan(shown.sensors[:, ~np.array(mask.keep)]).all()
    assert np.isnan(shown.sensors[np.isnan(data.sensors[rows])]).all()
    still = ~np.isnan(shown.sensors)
    assert np.array_equal(shown.sensors[still], data.sensors[rows][still])
    assert (shown.image_present | still.any(axis=1)).all()
    if mask.image == "hidden":
        assert not shown.image_present.any()
    elif mask.image == "noise":
        assert shown.image_present.all()
        assert (shown.embedding == 9).all()
    else:
        assert np.array_equal(shown.image_present, data.image_present[rows])
    if mask.missing:
        kept = still.sum() / (~np.isnan(data.sensors[rows])).sum()
        assert abs(kept - (1 - mask.missing)) < 0.1


def test_the_calculator_is_the_largest_sub_index_of_what_is_shown() -> None:
    nan = math.nan
    got = calculate(
        "us-epa-2024",
        np.array(
            [
                [35.4, nan, nan, nan, nan, nan],
                [35.4, 254.0, nan, nan, nan, nan],
                [nan] * 6,
                [9999.0, *[nan] * 5],
            ],
            np.float32,
        ),
    )
    # PM2.5 35.4 ends Moderate at 100; PM10 254 ends the class after it at 150.
    assert got[:2].tolist() == [100, 150]
    assert math.isnan(got[2])
    assert got[3] == 500


def test_the_last_value_is_the_site_s_own_and_never_the_present_one() -> None:
    data = windows(6)._replace(aqi=np.array([1.0, 2, np.nan, 4, 5, 6]))
    assert [None if math.isnan(v) else v for v in last_values(data)] == [None, None, 1, 2, 1, 4]


def test_unknown_layouts_and_empty_folders_are_refused(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="layout 'x'"):
        evaluate(bundle, folder, "x")
    shutil.copy(folder / "labels.csv", tmp_path)
    (tmp_path / "labels.csv").write_text(",".join(HEADER) + "\n")
    with pytest.raises(LayoutError, match="no groups"):
        evaluate(bundle, tmp_path)


def test_the_command_prints_json_or_a_table(folder: Path, tmp_path: Path) -> None:
    app = Typer()
    app.command()(evaluate_command)
    lines = tmp_path / "predictions.jsonl"
    result = CliRunner().invoke(app, ["default", str(folder), "--json", "--predictions", str(lines)])
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["predictions"] == [json.loads(line) for line in lines.read_text().splitlines()]
    result = CliRunner().invoke(app, ["default", str(folder)])
    assert result.exit_code == 0
    assert "image only" in result.output.replace("\n", " ")


def test_what_a_worker_refuses_is_left_out_and_told(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    """A fill value, a missing file, an AQI that is none: the window without them, and one line for each."""
    shutil.copytree(folder, tmp_path / "set")
    table = tmp_path / "set" / "labels.csv"
    with table.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        if row["Filename"].startswith("0-"):
            row["PM2.5"] = "99999"
        if row["Filename"].startswith("1-"):
            row["PM10"], row["AQI"] = "3276.7", "1e300"
    with table.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, HEADER)
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "set" / "images" / "2-1.jpg").unlink()
    report = evaluate(bundle, tmp_path / "set")
    told = "\n".join(report.summary["left_out"])
    assert len(report.summary["left_out"]) == 4
    assert re.search(
        r"mumbai 2023-03-01T03:30:00Z: .*pm25 = 99999.0 ug/m3 is outside the physical range", told
    )
    assert "ito-delhi 2023-03-02T03:30:00Z: 3276.7 ug/m3 is the sensor's sign for no value" in told
    assert "AQI 1e+300 is outside 0 to 999" in told
    assert re.search(r"frame .*2-1.jpg cannot be read: No such file", told)
    assert report.summary["frames_refused"] == 2
    # The model makes a value of its own where it was not shown the one that is none.
    assert report.predictions[0]["sensors"]["pm25"] < 1000
    assert report.predictions[1]["aqi_true"] is None
    assert all(entry["aqi"]["calculator us-epa-2024"]["rmse"] < 500 for entry in _scored(report))
    json.dumps([report.summary, report.predictions], allow_nan=False)


def _scored(report: EvaluationReport) -> list[dict[str, Any]]:
    return [entry for entry in report.summary["masks"].values() if entry["aqi"]]


def test_errors_are_told_by_site(bundle: Bundle, folder: Path) -> None:
    report = evaluate(bundle, folder)
    errors: dict[str, list[float]] = {"mumbai": [], "ito-delhi": []}
    for row in report.predictions:
        errors[row["station"]].append(row["aqi"] - row["aqi_true"])
    sites = report.summary["sites_all_inputs"]
    assert {name: site["windows"] for name, site in sites.items()} == {"mumbai": 3, "ito-delhi": 2}
    for name, made in errors.items():
        assert sites[name]["rmse"] == pytest.approx(math.sqrt(sum(e * e for e in made) / len(made)), rel=1e-4)
    # Repeats of a window under a random mask are one window.
    assert report.summary["masks"]["50 % missing"]["sites"]["mumbai"]["windows"] == 3


@pytest.mark.parametrize("columns", ["80", "50"])
def test_no_number_is_cut_on_a_narrow_screen(folder: Path, columns: str) -> None:
    app = Typer()
    app.command()(evaluate_command)
    result = CliRunner(env={"COLUMNS": columns}).invoke(app, ["default", str(folder)])
    assert result.exit_code == 0
    assert "…" not in result.output
    table = result.stdout.splitlines()
    assert all(len(line) <= int(columns) for line in table[1:] if not line.startswith(("*", "†")))
    assert any(re.match(r"mumbai +3 +\d+\.\d +\d+\.\d +\d+ %", line) for line in table)
    assert any(re.match(r"image only +\d+\.\d/\d+ %", line) for line in table)


def test_a_folder_without_frames_shows_no_bar_for_them(tmp_path: Path) -> None:
    (tmp_path / "readings.csv").write_text(
        "station,time,parameter,value,unit\nroof,2026-08-21T10:00:00Z,pm25,12,ug/m3\n"
    )
    app = Typer()
    app.command()(evaluate_command)
    result = CliRunner().invoke(app, ["default", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "encoding frames" not in result.output
    assert "1 window, 0 frames" in result.output


def test_where_the_model_said_nothing_the_table_tells_so(tmp_path: Path) -> None:
    (tmp_path / "readings.csv").write_text(
        "station,time,parameter,value,unit\n"
        "roof,2026-08-21T10:00:00Z,pm25,12,ug/m3\n"
        "roof,2026-08-21T11:00:00Z,pm25,-5,ug/m3\n"  # noise about zero, which the head does not read
    )
    app = Typer()
    app.command()(evaluate_command)
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["default", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert re.search(r"^all +\d+\.\d/\d+ %† ", result.stdout, re.MULTILINE)
    assert re.search(
        r"^† .* in a part of the windows only \(\d+ % at the least\)", result.stdout, re.MULTILINE
    )
    # Hidden from it is all that it reads: no score of the mean is shown as its own.
    assert re.search(r"^no pm25 +- ", result.stdout, re.MULTILINE)


def test_gradcam_marks_something_and_its_overlay_is_a_picture(bundle: Bundle, tmp_path: Path) -> None:
    explainer = Explainer(bundle)
    picture = np.asarray(scene(1, 0.4))
    sensors = np.array([80, np.nan, 20, 5, 90, 30], np.float32)
    raising, lowering = (explainer.explain(picture, sensors, 9.0, negative) for negative in (False, True))
    assert raising.cam.shape == (7, 7)
    assert raising.cam.min() >= 0
    assert 0 <= raising.familiarity <= 1
    # Nowhere can one place both raise and lower the estimate.
    assert (np.minimum(raising.cam, lowering.cam) == 0).all()
    hot = np.zeros((7, 7), np.float32)
    hot[0, 0] = 2
    (tmp_path / "o.png").write_bytes(overlay_png(np.full((224, 224, 3), 100, np.uint8), hot))
    with Image.open(tmp_path / "o.png") as opened:
        laid = np.asarray(opened).astype(int)
    assert laid.shape == (224, 224, 3)
    assert laid[5, 5, 0] > 150
    assert (laid[-60:, -60:] == 100).all()


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data is not here")
def test_the_shipped_bundle_on_real_frames(bundle: Bundle) -> None:
    """Three frames of every third group: in-sample for these heads, so well under the grouped figure."""
    groups = [Group(g.site, g.time, g.frames[:3], g.readings, g.aqi) for g in list(india_nepal(REAL))[::3]]
    assert isinstance(groups[0].site, Site)
    data = read_windows(bundle, groups, lambda *_: None)
    output = Head(bundle).predict(data.embedding, data.image_present, data.sensors, data.haze, data.hour)
    assert math.sqrt(float(((output.aqi - data.aqi) ** 2).mean())) < 42
    inside = (output.aqi_lo <= data.aqi) & (data.aqi <= output.aqi_hi)
    assert inside.mean() > 0.85
