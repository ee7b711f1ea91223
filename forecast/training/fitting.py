"""Networks fitted by torch: on a GPU where there is one, else on the processor, only longer."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch

from forecast.features import FUTURE, PAST, OriginFeatures, future, past
from forecast.panel import HORIZON
from forecast.training.data import Material, known_weather
from forecast.training.network import Architecture, Network, loss
from model.evaluation.progress import Progress
from model.training.export import onnx_graph
from schemas.parameters import POLLUTANTS


@dataclass(frozen=True)
class NetworkConfig:
    """How a network is made and fitted; an epoch is so many batches of origins drawn at random.

    Three days back, twice as wide and shown five times as much it was no better (docs/forecasts.md).
    """

    kind: Architecture = "cnn-lstm"
    window: int = 24
    width: int = 64
    dropout: float = 0.2
    epochs: int = 16
    batches: int = 60
    batch: int = 256
    rate: float = 2e-3
    decay: float = 1e-2
    patience: int = 4
    seed: int = 0


@dataclass
class _Tensors:
    """All copies as tensors, stations of all copies in one row after another."""

    past: Any
    future: Any
    last: Any
    truth: Any


def store(material: Material, device: str) -> _Tensors:
    """(rows, hours, columns) on `device`."""
    pasts, futures, lasts, truths = [], [], [], []
    for copy in material.copies:
        features = OriginFeatures(copy.shown)
        pasts.append(past(features, material.normalisation))
        futures.append(future(copy.shown, known_weather(copy, material.panel), material.normalisation))
        lasts.append(
            np.stack(
                [features.last(p, material.normalisation.typical[p]) for p in range(len(POLLUTANTS))], -1
            )
        )
        truths.append(material.truth[copy.rows])
    return _Tensors(
        *(torch.from_numpy(np.concatenate(part)).to(device) for part in (pasts, futures, lasts, truths))
    )


class _ForecastBatch(NamedTuple):
    """Tensors: the past, the future (where told), and how far the truth lies from the last value."""

    seen: Any
    coming: Any
    target: Any


def _batch(kept: _Tensors, rows: Any, origins: Any, window: int, spread: Any, told: Any) -> _ForecastBatch:
    device = kept.past.device
    back = origins[:, None] - torch.arange(window - 1, -1, -1, device=device)
    seen = kept.past[rows[:, None], back.clamp(min=0)] * (back >= 0)[..., None]
    ahead = origins[:, None] + torch.arange(1, HORIZON + 1, device=device)
    coming = kept.future[rows[:, None], ahead].clone()
    coming[..., :-5] *= told[:, None, None]
    target = (kept.truth[rows[:, None], ahead] - kept.last[rows, origins][:, None]) / spread
    return _ForecastBatch(seen, coming, target)


def fit(
    material: Material, kept: _Tensors, config: NetworkConfig, progress: Progress
) -> tuple[Network, list[dict[str, float]]]:
    """The network of the epoch that did best in the weeks that check, and how each epoch did."""
    torch.manual_seed(config.seed)
    device = kept.past.device
    generator = torch.Generator().manual_seed(config.seed)
    typical = material.normalisation.typical
    model = Network(config.kind, config.window, config.width, config.dropout, typical).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=config.decay)
    total = config.epochs * config.batches
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / 100) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / total)) / 2),
    )
    spread = torch.from_numpy(material.spread).to(device)
    learns = torch.from_numpy(material.learns)
    checks = torch.from_numpy(material.checks[::5])
    clean = len(material.panel.stations)
    best, best_state, since, history = math.inf, None, 0, []
    for epoch in range(config.epochs):
        model.train()
        for _ in range(config.batches):
            rows = torch.randint(len(kept.past), (config.batch,), generator=generator).to(device)
            picked = torch.randint(len(learns), (config.batch,), generator=generator)
            told = (torch.rand(config.batch, generator=generator) < 0.5).float().to(device)
            seen, coming, target = _batch(kept, rows, learns[picked].to(device), config.window, spread, told)
            optimizer.zero_grad()
            value = loss(model(seen, coming), target)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        scores = {
            name: _check(model, kept, checks, clean, config.window, spread, known)
            for name, known in (("none", 0.0), ("observed", 1.0))
        }
        history.append({"epoch": epoch, "train": float(value.detach()), **scores})
        progress(config.kind, epoch + 1, config.epochs)
        score = scores["none"] + scores["observed"]
        if score < best:
            best, since = score, 0
            best_state = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
        else:
            since += 1
            if since >= config.patience:
                progress(config.kind, config.epochs, config.epochs)
                break
    if best_state is not None:
        model.load_state_dict(best_state)
    return model.eval(), history


def _check(
    model: Network, kept: _Tensors, origins: Any, clean: int, window: int, spread: Any, told: float
) -> float:
    """The loss in weeks that check, of the stations as they are (the first `clean` rows) and with gaps."""
    model.eval()
    total, weight = 0.0, 0
    with torch.no_grad():
        for row in range(2 * clean):
            for part in origins.split(4096):
                at = part.to(kept.past.device)
                rows = torch.full_like(at, row)
                seen, coming, target = _batch(
                    kept, rows, at, window, spread, torch.full((len(at),), told, device=at.device)
                )
                value = float(loss(model(seen, coming), target))
                total, weight = total + value * len(at), weight + len(at)
    return total / max(weight, 1)


def exported(model: Network) -> bytes:
    """The network as ONNX: past (n, window, columns), future (n, 72, columns) -> quantiles and mean."""
    example = (torch.zeros(2, model.window, PAST), torch.zeros(2, HORIZON, FUTURE))
    axes = {name: {0: "rows"} for name in ("past", "future", "change")}
    return halved(onnx_graph(model.to("cpu"), example, ["past", "future"], ["change"], axes))


def halved(graph: bytes) -> bytes:
    """A graph whose weights are kept in half precision: the runtime widens them once, when it is loaded."""
    model = onnx.load_from_string(graph)
    casts = []
    for weights in model.graph.initializer:
        if weights.data_type == onnx.TensorProto.FLOAT and len(weights.dims) > 1:
            values = onnx.numpy_helper.to_array(weights).astype(np.float16)
            name = weights.name
            weights.CopyFrom(onnx.numpy_helper.from_array(values, f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
