"""A bundle that is not whole, not its own or not of this version is refused, and says why."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.bundle.bundle import DEFAULT_BUNDLE, PATTERNS, UNSEEN, Bundle, write_bundle
from model.bundle.runtime import Encoder, Head
from model.errors import BundleError
from schemas.parameters import POLLUTANTS


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_pollutant_that_was_never_learned_is_neither_read_nor_made_up(copy: Path) -> None:
    change(copy, lambda m: m["training"].update(withheld={}))
    whole = Head(Bundle.load(copy))
    change(copy, lambda m: m["training"].update(learned=["pm25", "pm10"]))
    part = Head(Bundle.load(copy))
    embedding, image = np.zeros((1, 128), np.float32), np.zeros(1, dtype=bool)
    every = np.array([[30, 50, 20, 5, 300, 60]], np.float32)
    particles = np.array([[30, 50, np.nan, np.nan, np.nan, np.nan]], np.float32)
    got, expected = part.predict(embedding, image, every), whole.predict(embedding, image, particles)
    assert got.aqi == expected.aqi
    assert np.array_equal(got.sensors[:, :2], expected.sensors[:, :2])
    assert np.isnan(got.sensors[:, 2:]).all()
    # Of a station that has nothing else it knows nothing.
    gas = np.array([[np.nan, np.nan, 20, np.nan, np.nan, np.nan]], np.float32)
    assert not part.predict(embedding, image, gas).speaks(0)
    assert whole.predict(embedding, image, gas).speaks(0)
    change(copy, lambda m: m["training"].update(learned=["pm1"]))
    with pytest.raises(BundleError, match=r"training\.learned names pm1"):
        Bundle.load(copy)


def test_a_bundle_says_which_pollutants_it_is_trusted_with(copy: Path) -> None:
    shipped = Bundle.load(copy)
    assert shipped.trusted == ("pm25", "pm10")
    assert shipped.range("pm10") == (7.0, 480.0)
    assert (shipped.unseen("pm25"), shipped.unseen("pm10"), shipped.unseen("no2")) == (1.75, 1.4, 1.75)


def test_a_bundle_from_before_the_question_is_answered_by_what_it_learned_from(copy: Path) -> None:
    def old(manifest: dict[str, Any], target: str | None) -> None:
        for key in ("withheld", "ranges"):
            manifest["training"].pop(key, None)
        manifest["intervals"].pop("unseen", None)
        manifest["training"]["configuration"].pop("target", None)
        if target is not None:
            manifest["training"]["configuration"]["target"] = target

    for target in ("stated", None):  # the columns of india-nepal as they stand
        change(copy, partial(old, target=target))
        assert Bundle.load(copy).trusted == ("pm25", "pm10")
        assert set(Bundle.load(copy).withheld) == {"no2", "so2", "co", "o3"}
    change(copy, lambda m: old(m, "us-epa-2024"))  # concentrations in true units
    bundle = Bundle.load(copy)
    assert bundle.trusted == POLLUTANTS
    assert bundle.range("pm10") == (0.0, 990.0)
    assert bundle.unseen("pm10") == UNSEEN
    # Without ranges of its own the head still does not extrapolate.
    dust = np.full((1, 6), np.nan, np.float32)
    dust[0, 1] = 6553.5
    assert not Head(bundle).predict(np.zeros((1, 128), np.float32), np.zeros(1, bool), dust).speaks(0)


def test_the_shipped_bundle_is_whole_small_and_says_what_it_is() -> None:
    bundle = Bundle.load()
    manifest = bundle.manifest
    assert manifest.parameters == POLLUTANTS
    assert manifest.unit == "ug/m3"
    assert "NC" in manifest.training.licence
    assert set(manifest.intervals.aqi) == set(PATTERNS)
    assert sum(len(content) for content in bundle.files.values()) < 20e6
    assert bundle.id.startswith(f"{manifest.name}-{manifest.version}+")
    card = bundle.files["MODEL_CARD.md"].decode()
    for word in ("Data", "Licence", "Figures", "fails", "night", "rain", "Not for"):
        assert word in card


def test_the_id_follows_the_content(copy: Path) -> None:
    before = Bundle.load(copy).id
    assert before == Bundle.load().id
    change(copy, lambda manifest: manifest.update(version="other"))
    assert Bundle.load(copy).id.split("+")[1] != before.split("+")[1]


def test_one_altered_byte_is_refused_with_the_file_s_name(copy: Path) -> None:
    content = bytearray((copy / "head.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "head.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"head\.onnx is not the file .* sha256"):
        Bundle.load(copy)


def test_a_missing_file_or_folder_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / "encoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"encoder\.onnx is listed in the manifest but cannot be read"):
        Bundle.load(copy)
    with pytest.raises(BundleError, match="no model bundle in"):
        Bundle.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(schema_version=1), "schema_version 1, this skyfuse reads 2"),
        (lambda m: m.pop("schema_version"), "schema_version None"),
        (lambda m: m.update(unit="ppb"), "unit"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m["parameters"].reverse(), "parameters are"),
        (lambda m: m["intervals"]["aqi"].pop("image"), "interval patterns"),
        (lambda m: m["intervals"]["sensors"]["image"].pop("co"), "interval parameters"),
        (lambda m: m["training"].update(withheld={"pm1": "why"}), r"training\.withheld names pm1"),
        (lambda m: m["training"].update(ranges={"dust": [0, 1]}), r"training\.ranges names dust"),
        (lambda m: m["training"].update(ranges={"pm10": [9.0, 1.0]}), r"ranges of pm10 are 9\.0 to 1\.0"),
        (lambda m: m["intervals"].update(unseen={"pm10": 0.5}), r"unseen of pm10 is 0\.5"),
        (lambda m: m["files"].pop("head.onnx"), r"files lacks head\.onnx"),
        (lambda m: m["files"].update({"../x": m["files"]["head.onnx"]}), "outside the bundle"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_with_the_reason(
    copy: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    change(copy, edit)
    with pytest.raises(BundleError, match=message):
        Bundle.load(copy)


def test_what_is_no_json_is_refused(copy: Path) -> None:
    (copy / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="is not JSON"):
        Bundle.load(copy)


def test_a_graph_that_onnxruntime_cannot_read_is_a_bundle_error(tmp_path: Path) -> None:
    shipped = Bundle.load()
    plain = shipped.manifest.model_dump(mode="json", exclude={"schema_version", "files"})
    bundle = write_bundle(tmp_path / "broken", plain, {**shipped.files, "encoder.onnx": b"not a graph"})
    with pytest.raises(BundleError, match=r"cannot load encoder\.onnx"):
        Encoder(bundle)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    shipped = Bundle.load()
    plain = shipped.manifest.model_dump(mode="json", exclude={"schema_version", "files"})
    again = write_bundle(tmp_path / "again", plain, shipped.files)
    assert again.manifest == shipped.manifest
    assert again.files == shipped.files
