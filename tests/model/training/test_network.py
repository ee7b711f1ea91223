"""The network against the paper's figures, and what is exported against torch (needs the train extra)."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from torch import Tensor

from camera.haze import haze
from model.bundle.bundle import PATTERNS, Bundle
from model.bundle.gradcam import Explainer
from model.bundle.runtime import Encoder, Head, pool
from model.errors import BundleError, TrainingError, WeightsError
from model.training.backbones import BACKBONES, build_backbone, load_pretrained
from model.training.batches import hour_circle
from model.training.config import TrainConfig, load_config
from model.training.export import EncoderGraph, Trained, export, load, quantise, save
from model.training.frames import FrameTable
from model.training.network import AQFusionNet, EnsembleHead, Familiarity, FusionHead, HeadConfig, HeadInputs
from model.training.train import Projection, Split, fit
from schemas.parameters import POLLUTANTS

pytestmark = pytest.mark.train
Float = NDArray[np.float32]


@pytest.mark.parametrize(
    ("backbone", "millions"), [("mobilenet_v2", 2.41), ("resnet18", 11.27), ("efficientnet_b0", 4.20)]
)
def test_the_published_configuration_has_the_published_number_of_parameters(
    backbone: str, millions: float
) -> None:
    net = AQFusionNet(backbone, load_config("paper").head)
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("fusion", ["concat", "gated", "cross-attention"])
@pytest.mark.parametrize("robust", [False, True])
def test_every_fusion_takes_any_mask_and_hidden_values_do_not_matter(fusion: str, robust: bool) -> None:
    torch.manual_seed(0)
    config = HeadConfig.model_validate(
        {**load_config("robust" if robust else "paper").head.model_dump(), "fusion": fusion}
    )
    head = FusionHead(config).eval()
    x = random_inputs(8)
    hidden = x._replace(
        sensors=torch.where(x.sensors_present > 0, x.sensors, torch.zeros(())),
        embedding=x.embedding * x.image_present,
        haze=x.haze * x.haze_present,
    )
    noisy = hidden._replace(
        sensors=torch.where(x.sensors_present > 0, x.sensors, torch.full((), 77.0)),
        embedding=torch.where(x.image_present > 0, x.embedding, torch.full((), 5.0)),
        haze=torch.where(x.haze_present > 0, x.haze, torch.full((), 5.0)),
    )
    with torch.no_grad():
        for a, b in zip(head(hidden), head(noisy), strict=True):
            assert torch.isfinite(a).all()
            assert torch.equal(a, b)


def random_inputs(rows: int, seed: int = 0) -> HeadInputs:
    generator = torch.Generator().manual_seed(seed)

    def bits(width: int) -> Tensor:
        return (torch.rand(rows, width, generator=generator) < 0.6).to(torch.float32)

    image = bits(1)
    return HeadInputs(
        torch.randn(rows, 128, generator=generator),
        image,
        torch.rand(rows, 20, generator=generator),
        image,
        torch.rand(rows, 6, generator=generator) * 200,
        bits(6),
        torch.randn(rows, 2, generator=generator),
    )


def test_pretrained_weights_are_there_or_the_error_says_what_to_install() -> None:
    for name in ("mobilenet_v2", "efficientnet_lite0"):
        net = build_backbone(name)
        try:
            source = load_pretrained(net, name)
        except WeightsError as error:
            pytest.skip(str(error))
        assert source
        # A trained network tells pictures apart; a random one of this depth hardly does.
        generator = np.random.default_rng(0)
        pictures = torch.from_numpy(generator.random((4, 3, 96, 96), dtype=np.float32))
        pictures[2:] = pictures[2:].mean((2, 3), keepdim=True)
        with torch.no_grad():
            features = net.eval()(pictures).mean((2, 3))
        assert features.shape == (4, BACKBONES[name].channels)
        assert torch.dist(features[0], features[2]) > 1.5 * torch.dist(features[0], features[1])
    with pytest.raises(WeightsError, match="unknown backbone 'vgg'"):
        build_backbone("vgg")


def city(groups: int = 24, frames: int = 6) -> FrameTable:
    """A made city: three sites, AQI = PM2.5 + PM10 / 2, features that follow PM2.5."""
    rng = np.random.default_rng(3)
    pm = rng.gamma(3, 25, groups).astype(np.float32)
    sensors = np.stack([pm, 1.5 * pm, *rng.gamma(2, 20, (4, groups))], axis=1).astype(np.float32)
    sensors[rng.random((groups, 6)) < 0.05] = np.nan
    group = np.repeat(np.arange(groups), frames)
    site = np.arange(groups) % 3
    direction = rng.normal(size=1280)
    features = 0.05 * rng.normal(size=(len(group), 1280)) + np.log1p(pm)[group, None] * direction * 0.2
    features += np.eye(3, 1280)[site[group]]
    return FrameTable(
        features=features.astype(np.float32),
        haze=(rng.random((len(group), 20)) * 0.1 + pm[group, None] / 500).astype(np.float32),
        group=group,
        sensors=sensors,
        hour=rng.uniform(0, 24, groups).astype(np.float32),
        aqi=np.nan_to_num(pm + 0.75 * pm).astype(np.float32),
        site=tuple("abc"[index] for index in site),
        noise=rng.normal(size=1280).astype(np.float32),
    )


def small(**changes: object) -> TrainConfig:
    return load_config("robust", **{"epochs": 60, "members": 2, **changes})


def quiet(*step: object) -> None:
    assert len(step) == 3


def test_training_learns_is_repeatable_and_resumes_to_the_same_network(tmp_path: Path) -> None:
    table = city()
    split = Split(np.arange(24) % 4 != 0)
    config = small()
    [first] = fit(table, config, [split], quiet)
    [again] = fit(table, config, [split], quiet)
    for a, b in zip(first.heads, again.heads, strict=True):
        assert all(
            torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
        )

    class Stop(Exception):
        pass

    def interrupt(*step: object) -> None:
        if step[1] == 31:
            raise Stop

    checkpoint = tmp_path / "checkpoint.pt"
    [whole] = fit(table, config, [split], quiet, tmp_path / "whole.pt")
    with pytest.raises(Stop):
        fit(table, config, [split], interrupt, checkpoint)
    seen: list[int] = []
    [resumed] = fit(table, config, [split], lambda *step: seen.append(step[1]), checkpoint)
    assert seen[0] == 31
    for a, b in zip(whole.heads, resumed.heads, strict=True):
        assert all(
            torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
        )


def test_early_stopping_keeps_the_best_network() -> None:
    table = city()
    frames = np.arange(len(table.group))
    split = Split(frames % 3 != 0, frames % 3 == 0)
    seen: list[int] = []
    config = load_config("paper", epochs=40, patience=2, learning_rate=0.3)
    [fitted] = fit(table, config, [split], lambda *step: seen.append(step[1]))
    assert seen[-1] < 40
    assert np.isfinite(fitted.validation_loss)


def test_folds_trained_together_do_not_see_their_own_held_out_groups() -> None:
    table = city()
    config = small(epochs=20)
    one, two = np.arange(24) % 2 == 0, np.arange(24) % 3 != 0
    [_, fitted] = fit(table, config, [Split(one), Split(two)], quiet)
    changed = table._replace(aqi=np.where(two, table.aqi, 400).astype(np.float32))
    [_, other] = fit(changed, config, [Split(one), Split(two)], quiet)
    for a, b in zip(fitted.heads, other.heads, strict=True):
        assert all(
            torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
        )


def test_configurations_name_the_field_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no training configuration .*paper, robust"):
        load_config("nothing")
    bad = tmp_path / "bad.toml"
    bad.write_text('name = "x"\nprojection = "pca"\nrows = "windows"\nepochs = 0\n[head]\n')
    with pytest.raises(TrainingError, match="epochs"):
        load_config(bad)
    with pytest.raises(TrainingError, match="alpha"):
        load_config("paper", alpha=2.0)


@pytest.fixture(scope="module")
def trained() -> Trained:
    from model.training.crossval import build_ensemble

    table, config = city(), small()
    everything = np.ones(24, dtype=bool)
    [fitted] = fit(table, config, [Split(everything)], quiet)
    ensemble, projection = build_ensemble(fitted, table, everything)
    score = {
        "rmse": 1.0,
        "accuracy": 0.5,
        "mae": 1.0,
        "r2": 0.0,
        "macro_f1": 0.5,
        "rmse_interval": [0.5, 2.0],
    }
    masks = (
        "all",
        "sensors only",
        "no pm25",
        "no pm",
        "50 % missing",
        "80 % missing",
        "image only",
        "image is noise",
    )
    protocol = {mask: {"aqi": {"model": score, "ridge": score}, "coverage": 0.9} for mask in masks}
    return Trained(
        config,
        ensemble,
        projection,
        {
            "aqi": dict.fromkeys(PATTERNS, 1.5),
            "sensors": {name: dict.fromkeys(POLLUTANTS, 1.5) for name in PATTERNS},
        },
        {
            "data": "a made city", "licence": "CC0-1.0", "groups": 24, "frames": 144,
            "sites": ["a", "b", "c"], "remarks": "none", "split": "none", "aqi_mean": 100.0,
            "aqi_scale": "made", "target": "stated",
        },
        {
            "random split (leaks)": score, "grouped": protocol, "leave one site out": protocol,
            "grouped, by seed": {"0": score},
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    run = tmp_path_factory.mktemp("run")
    save(run, trained)
    try:
        return export(tmp_path_factory.mktemp("bundle"), load(run), "made", "1")
    except WeightsError as error:
        pytest.skip(str(error))


def pictures(count: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (count, 7, 7, 3), dtype=np.uint8)
    return list(coarse.repeat(32, axis=1).repeat(32, axis=2))


def test_the_split_bundle_equals_the_whole_torch_network(trained: Trained, exported: Bundle) -> None:
    """Frames to estimate in one torch module, against encoder.onnx, pooling and head.onnx."""
    frames = pictures(4)
    encoder, head = Encoder(exported), Head(exported)
    trusted = np.isin(POLLUTANTS, exported.trusted)
    assert 0 < trusted.sum() < len(POLLUTANTS)
    embeddings = [result.embedding for result in encoder.encode(frames)]
    statistics = [haze(frame) for frame in frames]
    sensors = np.array([[50, 80, 10, 5, 300, 40], [np.nan, 80, np.nan, 5, 300, 40]], np.float32)
    hour = np.array([9.0, np.nan], np.float32)
    got = head.predict(
        np.stack([pool(embeddings[:1]), pool(embeddings)]),
        np.ones(2, dtype=bool),
        sensors,
        np.stack([pool(statistics[:1]), pool(statistics)]),
        hour,
    )
    graph = EncoderGraph(trained.config.backbone, trained.projection).eval()
    with torch.no_grad():
        whole = graph(torch.from_numpy(np.stack(frames)))[0]
        one = torch.ones(2, 1)
        # What has no trusted unit reaches no head.
        read = np.where(trusted, sensors, np.nan)
        present = torch.from_numpy((~np.isnan(read)).astype(np.float32))
        out = trained.ensemble(
            torch.stack([whole[0], whole.mean(0)]),
            one,
            torch.from_numpy(np.stack([pool(statistics[:1]), pool(statistics)])),
            one,
            torch.from_numpy(np.nan_to_num(read)),
            present,
            torch.from_numpy(hour_circle(hour)),
        )
    assert np.allclose(got.aqi, out.aqi[:, 0], rtol=1e-4)
    assert np.isnan(got.sensors[:, ~trusted]).all()
    assert np.allclose(np.log1p(got.sensors)[:, trusted], out.log_sensors[:, trusted], rtol=1e-4, atol=1e-4)
    assert np.allclose(embeddings[2], whole[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fusion", ["concat", "gated"])
def test_a_folded_ensemble_equals_its_members_one_by_one(fusion: str) -> None:
    torch.manual_seed(1)
    config = HeadConfig.model_validate({**load_config("robust").head.model_dump(), "fusion": fusion})
    heads = [FusionHead(config).eval() for _ in range(3)]
    x = random_inputs(50)
    ensemble = EnsembleHead(heads, Familiarity(torch.zeros(1, 64), 1e6, 1.0))
    assert (ensemble.first_weight is not None) == (fusion == "concat")
    with torch.no_grad():
        # A radius this wide trusts every picture.
        out = ensemble(*x)
        members = [head(x._replace(haze_present=x.image_present)) for head in heads]
    aqi = torch.stack([member.aqi for member in members])
    scale = torch.stack([member.aqi_scale for member in members])
    assert torch.allclose(out.aqi, aqi.mean(0), atol=1e-3)
    assert torch.allclose(out.aqi_scale, ((scale**2).mean(0) + aqi.var(0, unbiased=False)).sqrt(), rtol=1e-3)


def test_an_unfamiliar_picture_changes_nothing(trained: Trained) -> None:
    x = random_inputs(20)
    known = torch.nn.functional.pad(trained.ensemble.nearest.weight[:1], (0, 64)).expand(20, -1)
    far = x._replace(embedding=known + 1e3, image_present=torch.ones(20, 1))
    none = x._replace(image_present=torch.zeros(20, 1), haze_present=torch.zeros(20, 1))
    with torch.no_grad():
        assert torch.allclose(trained.ensemble(*far).aqi, trained.ensemble(*none).aqi, atol=1e-3)
        near = far._replace(embedding=known)
        assert trained.ensemble(*near).familiarity.min() > 0.9


def test_gradcam_from_the_onnx_graphs_equals_torch_gradcam(trained: Trained, exported: Bundle) -> None:
    # A picture at the edge of the familiar, so that the familiarity's own gradient counts too.
    ensemble = trained.ensemble
    explainer = Explainer(exported)
    graph = EncoderGraph(trained.config.backbone, trained.projection).eval()
    sensors, hour = np.array([50, np.nan, 10, 5, np.nan, 40], np.float32), 9.0
    for picture in pictures(3):
        for negative in (False, True):
            got = explainer.explain(picture, sensors, hour, negative)
            x = (
                torch.from_numpy(picture[None]).permute(0, 3, 1, 2).to(torch.float32) * graph.scale
                - graph.shift
            )
            features = graph.backbone(x).detach().requires_grad_()
            embedding = graph.embedding(features.mean((2, 3), keepdim=True)).flatten(1)
            one = torch.ones(1, 1)
            out = ensemble(
                embedding,
                one,
                torch.from_numpy(haze(picture)[None]),
                one,
                torch.from_numpy(np.nan_to_num(sensors)[None]),
                torch.from_numpy((~np.isnan(sensors)).astype(np.float32)[None]),
                torch.from_numpy(hour_circle(np.array([hour], np.float32))),
            )
            (gradient,) = torch.autograd.grad(out.aqi.sum(), features)
            weight = gradient.mean((2, 3), keepdim=True) * (-1 if negative else 1)
            cam = torch.relu((weight * features).sum(1))[0].detach().numpy()
            assert np.allclose(got.cam, cam, atol=1e-4 * max(1.0, float(cam.max())))
            assert abs(got.familiarity - out.familiarity.item()) < 1e-4


def test_int8_loads_with_the_same_classes_and_stays_close(exported: Bundle, tmp_path: Path) -> None:
    frames = pictures(12)
    small_bundle = quantise(exported, tmp_path / "int8", frames)
    assert small_bundle.id != exported.id
    assert small_bundle.manifest.backbone.precision == "int8"
    assert len(small_bundle.files["encoder.onnx"]) < 0.45 * len(exported.files["encoder.onnx"])
    for frame in frames:
        exact, _ = Encoder(exported).feature_map(frame)
        rough, _ = Encoder(small_bundle).feature_map(frame)
        exact, rough = exact.mean(axis=(1, 2)), rough.mean(axis=(1, 2))
        assert exact @ rough / np.linalg.norm(exact) / np.linalg.norm(rough) > 0.9


@pytest.mark.parametrize("fusion", ["gated", "cross-attention"])
def test_every_fusion_exports_and_only_concat_explains(fusion: str, tmp_path: Path, trained: Trained) -> None:
    from model.training.crossval import build_ensemble

    table, config = city(), small(epochs=2, head={"fusion": fusion})
    everything = np.ones(24, dtype=bool)
    [fitted] = fit(table, config, [Split(everything)], quiet)
    ensemble, projection = build_ensemble(fitted, table, everything)
    other = trained._replace(config=config, ensemble=ensemble, projection=projection)
    try:
        bundle = export(tmp_path, other, "made", "1")  # proves itself equal to torch
    except WeightsError as error:
        pytest.skip(str(error))
    with pytest.raises(BundleError, match="only heads with concat fusion"):
        Explainer(bundle)


def test_a_projection_per_member_cannot_become_a_bundle() -> None:
    from model.training.crossval import build_ensemble

    table = city()
    config = load_config("paper", epochs=1, members=2, patience=None)
    everything = np.ones(len(table.group), dtype=bool)
    [fitted] = fit(table, config, [Split(everything)], quiet)
    assert len(fitted.projections) == 2
    assert isinstance(fitted.projections[0], Projection)
    with pytest.raises(TrainingError, match="members = 1"):
        build_ensemble(fitted, table, np.ones(24, dtype=bool))
