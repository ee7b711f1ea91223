"""From a city's own folder to a bundle that a worker loads, and what fine-tuning does to a backbone."""

import itertools
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from typer import Typer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from backfill.hourly import read_folder  # noqa: E402
from cli.evaluate import evaluate_command  # noqa: E402
from cli.export import export_command  # noqa: E402
from cli.train import train_command  # noqa: E402
from datasets.hourly import hours  # noqa: E402
from model.bundle.bundle import Bundle  # noqa: E402
from model.bundle.runtime import Encoder  # noqa: E402
from model.errors import TrainingError, WeightsError  # noqa: E402
from model.evaluation.truth import with_target  # noqa: E402
from model.training.backbones import BACKBONES, build_backbone, tail_start  # noqa: E402
from model.training.config import load_config  # noqa: E402
from model.training.export import EncoderGraph, load  # noqa: E402
from model.training.finetune import fine_tune  # noqa: E402
from model.training.frames import FrameTable, read_frames  # noqa: E402
from tests.datasets.test_hourly import write_city  # noqa: E402

pytestmark = pytest.mark.train


def quiet(*step: object) -> None:
    assert len(step) == 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("city")
    write_city(root, hours=8)
    return root


@pytest.fixture(scope="module")
def table(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> FrameTable:
    histories, _ = read_folder(folder)
    groups = with_target(list(hours(histories)), "us-epa-2024")
    try:
        return read_frames(groups, "mobilenet_v2", tmp_path_factory.mktemp("cache"), quiet, blocks=2)
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", BACKBONES)
def test_a_tail_begins_with_a_block_and_is_the_rest_of_the_network(name: str) -> None:
    net = build_backbone(name).eval()
    x = torch.rand(1, 3, 64, 64)
    children = list(net.children())
    starts = [tail_start(net, blocks) for blocks in range(5)]
    assert starts[0] == len(children)
    assert all(later < sooner for sooner, later in itertools.pairwise(starts))
    with torch.no_grad():
        for start in starts:
            front, tail = torch.nn.Sequential(*children[:start]), torch.nn.Sequential(*children[start:])
            assert torch.equal(tail(front(x)), net(x))


def test_fine_tuning_fits_its_frames_resumes_and_leaves_the_rest_of_the_network(
    table: FrameTable, tmp_path: Path
) -> None:
    config = load_config("robust", fine_tune={"blocks": 2, "epochs": 4, "learning_rate": 1e-3, "batch": 8})
    train = np.ones(len(table.group), dtype=bool)

    def error(seen: FrameTable) -> float:
        """Of the best linear guess of log PM2.5 from four components: what a head could make of them."""
        wanted = np.log1p(seen.sensors[seen.group, 0])
        centred = seen.features - seen.features.mean(axis=0)
        leading = np.linalg.svd(centred, full_matrices=False)[0][:, :2]
        guess = leading @ (leading.T @ (wanted - wanted.mean())) + wanted.mean()
        return float(((guess - wanted) ** 2).mean())

    tuned = fine_tune(table, config, train, quiet)
    assert error(tuned.table) < error(table)

    class Stop(Exception):
        pass

    steps: list[object] = []

    def interrupt(*step: object) -> None:
        steps.append(step)
        if len(steps) == 5:
            raise Stop

    with pytest.raises(Stop):
        fine_tune(table, config, train, interrupt, tmp_path / "tuning.pt")
    before = len(steps)
    again = fine_tune(table, config, train, lambda *step: steps.append(step), tmp_path / "tuning.pt")
    assert len(steps) - before < before * 4
    assert np.array_equal(again.table.features, tuned.table.features)
    with pytest.raises(TrainingError, match="fine_tune"):
        fine_tune(table, load_config("robust"), train, quiet)


def test_untrained_blocks_give_the_frozen_features(table: FrameTable) -> None:
    config = load_config("robust", fine_tune={"blocks": 2, "epochs": 1, "learning_rate": 1e-12})
    tuned = fine_tune(table, config, np.ones(len(table.group), dtype=bool), quiet)
    # What goes into the blocks was kept in half precision.
    assert np.allclose(tuned.table.features, table.features, atol=0.02, rtol=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("table")  # without pretrained weights: skipped
@pytest.mark.parametrize("tuned", [False, True])
def test_a_city_trains_exports_and_evaluates_in_one_command_each(
    folder: Path, tmp_path: Path, tuned: bool
) -> None:
    app = Typer()
    for name, command in (
        ("train", train_command),
        ("export", export_command),
        ("evaluate", evaluate_command),
    ):
        app.command(name)(command)
    quick = tmp_path / "quick.toml"
    text = (Path(__file__).parents[3] / "model" / "configs" / "robust.toml").read_text()
    quick.write_text(text.replace("epochs = 800", "epochs = 30").replace("members = 8", "members = 2"))
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    arguments = [
        "train", str(quick), str(folder), "--output", str(run), "--cache", str(tmp_path / "cache"),
        "--data", "A made city", "--licence", "CC0-1.0", *(["--fine-tune", "1"] if tuned else []),
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = (run / "report.md").read_text()
    assert "16 windows" in report
    assert "Leave one site out" not in report  # one of the two stations has no camera
    assert (run / "report.png").stat().st_size > 10_000
    result = CliRunner().invoke(app, ["export", str(run), str(bundle)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    loaded = Bundle.load(bundle)
    training = loaded.manifest.training
    assert training.learned == ("pm25", "no2")
    assert training.withheld == {}  # this layout's values have units
    assert loaded.trusted == training.learned
    assert set(training.ranges) == set(training.learned)
    assert training.configuration["target"] == "us-epa-2024"
    assert loaded.manifest.aqi_scale.startswith("us-epa-2024")
    trained = load(run)
    assert (trained.tail is not None) == tuned
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    graph = EncoderGraph("mobilenet_v2", trained.projection, trained.tail, 1).eval()
    with torch.no_grad():
        expected = graph(torch.from_numpy(picture[None]))[0].numpy()[0]
        plain = EncoderGraph("mobilenet_v2", trained.projection).eval()(torch.from_numpy(picture[None]))[0]
    got = Encoder(loaded).encode([picture])[0].embedding
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert np.allclose(got, plain.numpy()[0], rtol=1e-4, atol=1e-4) != tuned
    result = CliRunner().invoke(app, ["evaluate", str(bundle), str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "16 windows" in result.output
