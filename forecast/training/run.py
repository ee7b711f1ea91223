"""A training from a network's hours to a bundle."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from datasets.provenance import Provenance
from forecast.bundle import (
    ForecastManifest,
    ForecastTables,
    ForecastTraining,
    NetworkEntry,
    write_forecast_bundle,
)
from forecast.errors import ForecastError
from forecast.models import ForecastModel, NetworkModel, Persistence
from forecast.panel import Panel
from forecast.training import fitting, tables
from forecast.training.data import CHECKED_WEEK, material
from model.evaluation.progress import Progress
from schemas.parameters import POLLUTANTS

#: Less does not hold a week that checks and one that learns.
_LEAST_HOURS = 168 * (CHECKED_WEEK + 2)


@dataclass(frozen=True)
class TrainingPlan:
    """How much is spent: networks, tables, and hours from one origin that chooses the mix to the next."""

    networks: tuple[fitting.NetworkConfig, ...] = (
        fitting.NetworkConfig("cnn-lstm"),
        fitting.NetworkConfig("cnn-lstm-attention"),
    )
    tabular: tables.TablesPlan = field(default_factory=tables.TablesPlan)
    every: int = 7


def train(
    panel: Panel, output: Path, name: str, version: str, provenance: Provenance, plan: TrainingPlan,
    progress: Progress,
) -> ForecastManifest:  # fmt: skip
    """Fit every model to `panel` and write the bundle to `output`."""
    if panel.hours < _LEAST_HOURS:
        raise ForecastError(
            f"{panel.hours} hours are too few to train on:"
            f" {_LEAST_HOURS} ({_LEAST_HOURS // 24} days) is the least,"
            " a year what is worth it. The default bundle needs no training"
        )
    known = [
        POLLUTANTS[p]
        for p in range(len(POLLUTANTS))
        if np.isfinite(panel.values[..., p]).sum() >= _LEAST_HOURS / 2
    ]
    if not known:
        raise ForecastError("no pollutant has values for half of the least time to train on")
    learned = material(panel, plan.tabular.seed)
    if not len(learned.learns) or not len(learned.checks):
        raise ForecastError("no week is left to learn from and to check with: give a longer time")
    trees, ridge = tables.tabular(learned, plan.tabular, progress)
    by, device = learned.normalisation, "cuda" if torch.cuda.is_available() else "cpu"
    kept = fitting.store(learned, device)
    networks: list[tuple[NetworkEntry, bytes]] = []
    members: list[ForecastModel] = [ridge, trees]
    for config in plan.networks:
        model, _ = fitting.fit(learned, kept, config, progress)
        graph = fitting.exported(model)
        entry = NetworkEntry(name=config.kind, file=f"{config.kind}.onnx", window=config.window)
        networks.append((entry, graph))
        members.append(NetworkModel(config.kind, graph, config.window, by, learned.spread, batch=256))
    drift = tables.drift(panel)
    mix = tables.mixed(learned, [*members, Persistence(drift, by.typical)], plan.every, progress)
    packed = ForecastTables(
        drift,
        tables.climate(panel).table,
        learned.spread,
        trees,
        ridge,
        mix.weights,
        mix.offsets,
    )
    training = ForecastTraining(
        **provenance._asdict(), stations=panel.stations, begins=_day(panel.begins),
        ends=_day(panel.begins + panel.hours - 1), learned=tuple(known),
    )  # fmt: skip
    return write_forecast_bundle(output, name, version, networks, packed, by, training)


def _day(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%d")
