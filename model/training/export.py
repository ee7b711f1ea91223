"""From trained heads to a bundle: ONNX graphs, manifest and model card (torch; the `train` extra).

`export` writes float32 graphs and checks them against torch before it returns; `quantise` makes an int8
encoder from calibration frames.
"""

import io
import json
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from torch.nn import functional

from camera.haze import HAZE_NAMES, HAZE_SIZE
from model.bundle.bundle import (
    CARD_FILE,
    EMBEDDING_SIZE,
    ENCODER_FILE,
    EXPLAIN_FILE,
    HEAD_FILE,
    PROJECTION_SIZE,
    Bundle,
    write_bundle,
)
from model.bundle.runtime import Encoder, Head
from model.errors import TrainingError
from model.evaluation.evaluate import Windows
from model.training.backbones import BACKBONES, build_backbone, load_pretrained, tail_start
from model.training.config import TrainConfig
from model.training.crossval import run_ensemble
from model.training.frames import INPUT_SIZE
from model.training.network import SENSORS, EnsembleHead, EnsembleOutputs, Familiarity, FusionHead, HeadInputs
from model.training.train import Projection
from schemas.parameters import POLLUTANTS

__all__ = ["Trained", "export", "load", "model_card", "quantise", "save"]

_OPSET: Final = 17
_WIDTHS: Final = (EMBEDDING_SIZE, 1, HAZE_SIZE, 1, SENSORS, SENSORS, 2)


class EncoderGraph(nn.Module):
    """Frames (N, H, W, 3) uint8 to embedding, projection and feature map; normalisation inside."""

    def __init__(
        self, backbone: str, projection: Projection, tail: Mapping[str, Tensor] | None = None, blocks: int = 0
    ) -> None:
        super().__init__()
        spec = BACKBONES[backbone]
        self.backbone = build_backbone(backbone)
        self.weights = load_pretrained(self.backbone, backbone)
        if tail is not None:
            children = list(self.backbone.children())
            nn.Sequential(*children[tail_start(self.backbone, blocks) :]).load_state_dict(tail)
            self.weights += f", last {blocks} blocks fine-tuned"
        self.embedding = nn.Conv2d(spec.channels, EMBEDDING_SIZE, 1)
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(projection.weight.T.copy())[:, :, None, None])
            self.embedding.bias.copy_(torch.from_numpy(projection.bias))
        std = torch.tensor(spec.std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", torch.tensor(spec.mean).view(1, 3, 1, 1) / std)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = frames.permute(0, 3, 1, 2).to(torch.float32) * self.scale - self.shift
        features = self.backbone(x)
        embedding = self.embedding(functional.adaptive_avg_pool2d(features, 1)).flatten(1)
        return embedding, embedding[:, :PROJECTION_SIZE], features


class ExplainGraph(nn.Module):
    """The head's feeds to the AQI's gradient by channel of the feature map's mean, and the image's share."""

    def __init__(self, ensemble: EnsembleHead, projection: Projection) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.register_buffer("weight", torch.from_numpy(projection.weight.T.copy()))

    def forward(self, *feeds: Tensor) -> tuple[Tensor, Tensor]:
        x = HeadInputs(*feeds)
        return self.ensemble.aqi_gradient(x) @ self.weight, self.ensemble.familiarity(x)


def onnx_graph(
    module: nn.Module, example: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str],
    axes: dict[str, dict[int, str]],
) -> bytes:  # fmt: skip
    """ONNX bytes of `module`."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is what torch offers without onnxscript, and warns that it is the older one.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", UserWarning)
        torch.onnx.export(
            module.eval(), example, out, dynamo=False, opset_version=_OPSET,
            input_names=list(inputs), output_names=list(outputs), dynamic_axes=axes,
        )  # fmt: skip
    return out.getvalue()


def encoder_bytes(graph: EncoderGraph) -> bytes:
    return onnx_graph(
        graph,
        (torch.zeros(1, 64, 64, 3, dtype=torch.uint8),),
        ["frames"],
        ["embedding", "projection", "feature_map"],
        {
            "frames": {0: "n", 1: "height", 2: "width"},
            "embedding": {0: "n"},
            "projection": {0: "n"},
            "feature_map": {0: "n", 2: "h", 3: "w"},
        },
    )


def _feeds_graph(module: nn.Module, outputs: Sequence[str]) -> bytes:
    names = HeadInputs._fields
    return onnx_graph(
        module, tuple(torch.rand(2, width) for width in _WIDTHS), names, outputs,
        {name: {0: "n"} for name in (*names, *outputs)},
    )  # fmt: skip


class Trained(NamedTuple):
    """All that a bundle is made of, as `skyfuse train` leaves it in its run folder."""

    config: TrainConfig
    ensemble: EnsembleHead
    projection: Projection
    intervals: dict[str, Any]  #: as `model.training.crossval.with_intervals` makes them
    #: As in the manifest (`model.bundle.bundle.Training`), and aqi_mean, aqi_scale, target, remarks.
    training: dict[str, Any]
    report: dict[str, Any]  #: `model.training.report.full_report`
    tail: dict[str, Tensor] | None = None  #: of a fine-tuned backbone (`model.training.finetune`)


def save(run: Path, trained: Trained) -> None:
    """Write `run`/trained.pt, loadable with weights_only."""
    ensemble = trained.ensemble
    run.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "config": trained.config.model_dump_json(),
            "heads": [head.state_dict() for head in ensemble.heads],
            "prototypes": ensemble.nearest.weight.detach().clone(),
            "radius": ensemble.radius,
            "softness": ensemble.softness,
            "projection": [torch.from_numpy(part) for part in trained.projection],
            "tail": trained.tail,
            "plain": json.dumps([trained.intervals, trained.training, trained.report]),
        },
        run / "trained.pt",
    )


def load(run: Path) -> Trained:
    """What `save` wrote. Raises `TrainingError` where there is no finished run."""
    try:
        stored = torch.load(run / "trained.pt", weights_only=True)
    except OSError as error:
        raise TrainingError(
            f"{run} holds no finished training run ({error.strerror}): skyfuse train first"
        ) from error
    config = TrainConfig.model_validate_json(stored["config"])
    heads = []
    for state in stored["heads"]:
        head = FusionHead(config.head)
        head.load_state_dict(state)
        heads.append(head.eval())
    known = Familiarity(stored["prototypes"], stored["radius"], stored["softness"])
    projection = Projection(*(part.numpy() for part in stored["projection"]))
    ensemble = EnsembleHead(heads, known).eval()
    intervals, training, report = json.loads(stored["plain"])
    return Trained(config, ensemble, projection, intervals, training, report, stored["tail"])


def export(folder: Path, trained: Trained, name: str, version: str) -> Bundle:
    """Write a float32 bundle and prove it equal to torch (1e-4 relative) on random input.

    Raises:
        TrainingError: the exported graphs do not give what torch gives.
    """
    config, ensemble, projection = trained.config, trained.ensemble, trained.projection
    spec, training = BACKBONES[config.backbone], dict(trained.training)
    blocks = 0 if config.fine_tune is None else config.fine_tune.blocks
    graph = EncoderGraph(config.backbone, projection, trained.tail, blocks)
    files = {
        ENCODER_FILE: encoder_bytes(graph),
        HEAD_FILE: _feeds_graph(ensemble, EnsembleOutputs._fields),
        CARD_FILE: model_card(trained, f"{name} {version}").encode(),
    }
    if config.head.fusion == "concat":
        explain = ExplainGraph(ensemble, projection)
        files[EXPLAIN_FILE] = _feeds_graph(explain, ["aqi_gradient", "familiarity"])
    aqi_scale, aqi_mean, target, remarks = (
        training.pop(key) for key in ("aqi_scale", "aqi_mean", "target", "remarks")
    )
    manifest = {
        "name": name,
        "version": version,
        "input": {
            "colour": "RGB", "layout": "NHWC", "dtype": "uint8", "width": INPUT_SIZE, "height": INPUT_SIZE,
            "mean": spec.mean, "std": spec.std,
        },
        "backbone": {
            "name": config.backbone, "weights": graph.weights, "licence": spec.licence, "precision": "fp32",
            "channels": spec.channels,
        },
        "parameters": POLLUTANTS,
        "unit": "ug/m3",
        "haze": HAZE_NAMES,
        "embedding_size": EMBEDDING_SIZE,
        "projection_size": PROJECTION_SIZE,
        "hour": "local mean solar hour (UTC + longitude / 15) at the window's start; optional",
        "aqi_scale": aqi_scale,
        "intervals": {"level": 0.9, **trained.intervals},
        "training": {
            **training,
            "configuration": {**config.model_dump(mode="json"), "target": target, "aqi_mean": aqi_mean},
        },
        "metrics": _metrics(trained.report),
        "notes": [remarks],
    }  # fmt: skip
    bundle = write_bundle(folder, manifest, files)
    _check(bundle, graph, ensemble)
    return bundle


def _metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that travel with the bundle: the model's own, per protocol and mask pattern."""
    figures: dict[str, Any] = {"random split (leaks)": report["random split (leaks)"]}
    for protocol in (name for name in ("grouped", "leave one site out") if name in report):
        figures[protocol] = {
            mask: {**entry["aqi"]["model"], "coverage": round(entry["coverage"], 4)}
            for mask, entry in report[protocol].items()
        }
    figures["grouped, by seed"] = report["grouped, by seed"]
    return figures


def model_card(trained: Trained, title: str) -> str:
    """MODEL_CARD.md from the run's own figures."""
    config, training, report = trained.config, trained.training, trained.report
    random, grouped = report["random split (leaks)"], report["grouped"]
    sites = report.get("leave one site out", {})

    def figure(entry: Mapping[str, Any], name: str = "model") -> str:
        score = entry["aqi"][name]
        return f"{score['rmse']:.1f} / {100 * score['accuracy']:.0f} %"

    rivals = [name for name in grouped["all"]["aqi"] if name != "model"]
    shown = (
        "all",
        "sensors only",
        "no pm25",
        "no pm",
        "50 % missing",
        "80 % missing",
        "image only",
        "image is noise",
    )
    rows = [
        f"| {mask} | {figure(grouped[mask])} | {100 * grouped[mask]['coverage']:.0f} %"
        f" | {figure(sites[mask]) if sites else 'one site only'} |"
        for mask in shown
    ]

    def average(name: str) -> float:
        return float(np.mean([entry[name] for entry in report["grouped, by seed"].values()]))

    low, high = grouped["all"]["aqi"]["model"]["rmse_interval"]
    backbone = f"a frozen ImageNet {config.backbone}"
    if config.fine_tune is not None:
        backbone = f"{config.backbone}, ImageNet weights, last {config.fine_tune.blocks} blocks fine-tuned"
    return f"""# Model card: {title}

**What it is.** {config.members} fusion heads on {backbone}. In go six sensors with
mask bits, the solar hour, {config.head.components} principal components of the picture and 20 haze
statistics; out come the AQI and six concentrations with their scales, less what is withheld. A picture that
is unlike those of the training cameras counts less and less (a familiarity gate), down to the estimate from
the sensors alone. Far outside its training it says nothing.

**Data.** {training["data"]}: {training["groups"]} (site, date, hour) windows of {training["frames"]} frames
at {", ".join(training["sites"])}. **Licence: {training["licence"]}**; the bundle carries it on.
AQI scale: {training["aqi_scale"]}.
{training["remarks"]}
{_withheld(training.get("withheld", {}))}
**Figures.** RMSE in AQI points / accuracy of six classes; {training["split"]}.

| inputs | grouped | coverage of the 90 % interval | a site never seen |
|---|---|---|---|
{chr(10).join(rows)}

All inputs, mean of three draws of the folds: {average("rmse"):.1f} / {100 * average("accuracy"):.0f} %.
Beside it, all inputs, grouped: {"; ".join(f"{name} {figure(grouped['all'], name)}" for name in rivals)}.

On a random split of frames the published configuration reaches RMSE {random["rmse"]:.2f} and
{100 * random["accuracy"]:.1f} %: frames of one video lie on both sides of such a split, so this figure says
nothing about new air. The windows are few: the 90 % bootstrap interval of the grouped RMSE is {low:.0f} to
{high:.0f}.

**Where it fails.** At a site it never saw, pictures add nothing, and without particle sensors the estimate
is no better than a guess at the mean: let the station's own virtual sensor learn (docs/model.md). Colourless
gases leave little trace in a picture. The largest errors lie where the air is worst. Training frames are
daylight without rain; fog and drizzle look like haze. At night, in rain, behind a blocked or frozen lens
the quality gate has to refuse the picture, and does so by rules of its own.

**Not for** regulatory reporting, health decisions of single persons, indoor air, or any place without a
sensor nearby to check it against; not for commercial use where the data's licence forbids it.
"""


def _withheld(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return ""
    listed = "\n".join(f"- {name}: {why}" for name, why in reasons.items())
    return f"\n**Withheld**, neither read nor told:\n\n{listed}\n"


def _check(bundle: Bundle, graph: EncoderGraph, ensemble: EnsembleHead) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)
    with torch.no_grad():
        embedding = graph(torch.from_numpy(picture[None]))[0].numpy()[0]
    _agree("encoder.onnx", Encoder(bundle).encode([picture])[0].embedding, embedding)
    rows = 32
    feeds = [rng.normal(size=(rows, width)).astype(np.float32) for width in _WIDTHS]
    feeds[0][:16] = ensemble.nearest.weight.detach().numpy()[0].mean()
    there = rng.random(rows) < 0.7
    there[0] = True
    sensors = np.where(rng.random((rows, 6)) < 0.6, rng.gamma(2, 40, (rows, 6)), np.nan).astype(np.float32)
    learned = np.array([name in bundle.manifest.training.learned for name in POLLUTANTS])
    sensors[:, ~learned] = np.nan
    sensors[:, learned.argmax()] = 30.0
    hour = (rng.random(rows) * 24).astype(np.float32)
    aqi, _, log_sensors, _ = Head(bundle).graph_outputs(feeds[0], there, sensors, np.abs(feeds[2]), hour)
    shown = Windows(feeds[0], there, np.abs(feeds[2]), sensors, hour, np.zeros(rows), (), (), (), ())
    expected = run_ensemble(ensemble, shown)
    _agree("head.onnx", aqi, expected.aqi.numpy())
    _agree("head.onnx", log_sensors[:, learned], expected.log_sensors.numpy()[:, learned])


def _agree(what: str, got: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    worst = float((np.abs(got - expected) / np.maximum(np.abs(expected), 1)).max())
    if not worst < 1e-4:
        raise TrainingError(
            f"{what} differs from torch by {worst:.2e} (relative); the bundle must not be used"
        )


class _CalibrationFrames(CalibrationDataReader):
    def __init__(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        self._frames = iter(frames)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        frame = next(self._frames, None)
        return None if frame is None else {"frames": frame[None]}


def quantise(
    bundle: Bundle,
    folder: Path,
    frames: Sequence[NDArray[np.uint8]],
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Bundle:
    """A copy of `bundle` whose backbone computes in int8 (static, per channel, calibrated on `frames`).

    Projection and pooling stay in float32: they are cheap, and the head was trained on exact components.
    """
    progress("calibrating int8", 0, len(frames))
    with tempfile.TemporaryDirectory() as scratch:
        source, prepared, target = (
            Path(scratch) / name for name in ("fp32.onnx", "prepared.onnx", "int8.onnx")
        )
        source.write_bytes(bundle.files[ENCODER_FILE])
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        nodes = onnx.load(str(prepared)).graph.node
        # The last convolution is the projection. The first eight (two blocks) have few channels of very
        # unequal range, which 8 bits cut badly: in float32 the features stay three times closer.
        convolutions = [node.name for node in nodes if node.op_type == "Conv"]
        quantize_static(
            str(prepared),
            str(target),
            _CalibrationFrames(frames),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Clip", "Relu"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*convolutions[:8], *convolutions[-1:]],
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        encoder = target.read_bytes()
    progress("calibrating int8", len(frames), len(frames))
    plain = bundle.manifest.model_dump(mode="json", exclude={"schema_version", "files"})
    plain["name"] = f"{plain['name']}-int8"
    plain["backbone"]["precision"] = "int8"
    return write_bundle(folder, plain, {**bundle.files, ENCODER_FILE: encoder})
