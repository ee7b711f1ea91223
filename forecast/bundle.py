"""A forecast bundle: a folder with networks, tables, a manifest that says what they are, and a card.

    NAME.onnx      a network: past (n, window, columns), future (n, 72, columns) -> change (n, 72,
    pollutants, 8)
    tables.npz     drift, climate, trees, ridge, mix
    manifest.json  version, normalisation, windows, training data and licence, sha256 of each file
    MODEL_CARD.md  for people

It is read once and verified before anything is made of the very bytes that were hashed.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forecast.errors import ForecastBundleError
from forecast.features import Normalisation
from forecast.mix import MIXED, Mix
from forecast.models import (
    ANCHORS,
    Climatology,
    ForecastModel,
    NetworkModel,
    Persistence,
    Ridge,
    SeasonalNaive,
    Trees,
)
from forecast.panel import HORIZON, QUANTILES, WEATHER_CHANNELS
from forecast.trees import Forest
from schemas.arrays import Float32
from schemas.base import Sha256, first_error
from schemas.parameters import POLLUTANTS

DEFAULT_FORECAST_BUNDLE: Final = Path(__file__).parent / "bundles" / "default"
_TABLES: Final = "tables.npz"
_MANIFEST: Final = "manifest.json"
_CARD: Final = "MODEL_CARD.md"


class _ForecastManifestPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkEntry(_ForecastManifestPart):
    """A network's name, its file, and how many hours it looks back on."""

    name: str
    file: str
    window: int = Field(gt=0)


class NormalisationEntry(_ForecastManifestPart):
    """log1p(value / typical) for pollutants (ug/m3), (value - mean) / std for weather."""

    typical: tuple[float, ...] = Field(min_length=len(POLLUTANTS), max_length=len(POLLUTANTS))
    weather_mean: tuple[float, ...] = Field(
        min_length=len(WEATHER_CHANNELS), max_length=len(WEATHER_CHANNELS)
    )
    weather_std: tuple[float, ...] = Field(min_length=len(WEATHER_CHANNELS), max_length=len(WEATHER_CHANNELS))


class ForecastTraining(_ForecastManifestPart):
    """What was learned from."""

    data: str
    licence: str
    stations: tuple[str, ...]
    begins: str
    ends: str
    learned: tuple[str, ...]
    remarks: str = ""


class ForecastManifest(_ForecastManifestPart):
    """What `manifest.json` states."""

    schema_version: Literal[1] = 1
    name: str
    version: str
    pollutants: tuple[str, ...] = POLLUTANTS
    weather: tuple[str, ...] = WEATHER_CHANNELS
    quantiles: tuple[float, ...] = QUANTILES
    anchors: tuple[int, ...] = ANCHORS
    networks: tuple[NetworkEntry, ...]
    normalisation: NormalisationEntry
    training: ForecastTraining
    files: dict[str, Sha256]


@dataclass(frozen=True)
class ForecastTables:
    """All of a bundle that is no network."""

    drift: Float32
    climate: Float32
    spread: Float32
    trees: Trees
    ridge: Ridge
    weights: Float32
    offsets: Float32

    def packed(self) -> bytes:
        """As the bytes of `tables.npz`."""
        arrays: dict[str, NDArray[Any]] = {
            "drift": self.drift.astype(np.float32), "climate": self.climate.astype(np.float16),
            "spread": self.spread,
            "mix.weights": self.weights, "mix.offsets": self.offsets, "ridge.errors": self.ridge.errors,
            "trees.have": np.array(sorted(self.trees.forests), np.int64).reshape(-1, 2),
            "near.have": np.array(sorted(self.trees.near), np.int64).reshape(-1, 2),
            "first.have": np.array(sorted(self.trees.first), np.int64).reshape(-1, 2),
            "middle.have": np.array(sorted(self.trees.middle), np.int64).reshape(-1, 2),
            "first.on_line": np.array(self.trees.first_line is not None),
            "near.on_line": np.array(self.trees.near_line is not None),
            "ridge.filled": np.array(self.ridge.filled), "ridge.furthest": np.array(self.ridge.furthest),
        }  # fmt: skip
        for told in (0, 1):
            arrays |= {
                f"ridge.weights.{told}": self.ridge.weights[told],
                f"ridge.centre.{told}": self.ridge.centre[told],
                f"ridge.scale.{told}": self.ridge.scale[told],
            }  # fmt: skip
        for kind, kept in (
            ("trees", self.trees.forests), ("middle", self.trees.middle), ("near", self.trees.near),
            ("first", self.trees.first),
        ):  # fmt: skip
            for (told, pollutant), forests in kept.items():
                for place, forest in enumerate(forests):
                    arrays |= forest.packed(f"{kind}.{told}.{pollutant}.{place}")
        out = io.BytesIO()
        np.savez_compressed(out, allow_pickle=False, **arrays)
        return out.getvalue()

    @staticmethod
    def unpacked(data: bytes, typical: tuple[float, ...]) -> "ForecastTables":
        """What `packed` made."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        spread = kept["spread"].astype(np.float32)
        forests, middle, near, first = (
            {
                (int(told), int(pollutant)): tuple(
                    Forest.unpacked(f"{kind}.{told}.{pollutant}.{place}", kept) for place in range(4)
                )
                for told, pollutant in kept.get(f"{kind}.have", ())
            }
            for kind in ("trees", "middle", "near", "first")
        )
        of_ridge = [
            (kept[f"ridge.{part}.0"], kept[f"ridge.{part}.1"]) for part in ("weights", "centre", "scale")
        ]
        # What bundles of before do not say is how they were made.
        ridge = Ridge(
            of_ridge[0], of_ridge[1], of_ridge[2], kept["ridge.errors"], typical, spread,
            filled=bool(kept.get("ridge.filled", False)), furthest=float(kept.get("ridge.furthest", 5.0)),
        )  # fmt: skip
        first_line = ridge if kept.get("first.on_line", False) else None
        near_line = ridge if kept.get("near.on_line", first_line is not None) else None
        return ForecastTables(
            kept["drift"], kept["climate"].astype(np.float32), spread,
            Trees(
                forests, typical, spread, first=first, near=near, middle=middle, first_line=first_line,
                near_line=near_line,
            ),
            ridge, _three(kept["mix.weights"]), kept["mix.offsets"],
        )  # fmt: skip


def _three(weights: Float32) -> Float32:
    """The weights of a mix; bundles of before have the same for mean, median and widths."""
    return np.repeat(weights[..., None], len(MIXED), axis=-1) if weights.ndim == 4 else weights


@dataclass(frozen=True)
class ForecastBundle:
    """A verified bundle."""

    manifest: ForecastManifest
    tables: ForecastTables
    graphs: dict[str, bytes]

    @property
    def normalisation(self) -> Normalisation:
        stated = self.manifest.normalisation
        return Normalisation(stated.typical, stated.weather_mean, stated.weather_std)

    def models(self, batch: int = 1) -> list[ForecastModel]:
        """Every model, the floor first, the mix last. `batch` rows ride together in a network: one keeps
        bits equal.
        """
        typical, tables = self.normalisation.typical, self.tables
        members: list[ForecastModel] = [tables.ridge, tables.trees]
        members += [
            NetworkModel(
                entry.name, self.graphs[entry.file], entry.window, self.normalisation, tables.spread, batch
            )
            for entry in self.manifest.networks
        ]
        persistence = Persistence(tables.drift, typical)
        # Bundles of before have no weight for persistence, which is the last member.
        mixed = [*members, persistence][: tables.weights.shape[3]]
        return [
            persistence, SeasonalNaive(tables.drift, typical), Climatology(tables.climate),
            *members, Mix(tuple(mixed), tables.weights, tables.offsets),
        ]  # fmt: skip

    def mix(self, batch: int = 1) -> Mix:
        """The last of `models`."""
        *_, last = self.models(batch)
        assert isinstance(last, Mix)
        return last

    @staticmethod
    def load(folder: Path) -> "ForecastBundle":
        """Raises ForecastBundleError where a file is missing, was altered, or is of another version."""
        try:
            manifest = ForecastManifest.model_validate_json((folder / _MANIFEST).read_bytes())
            files = {name: (folder / name).read_bytes() for name in manifest.files}
        except OSError as error:
            raise ForecastBundleError(
                f"{folder} is no forecast bundle: {error.strerror}: {error.filename}"
            ) from error
        except ValidationError as error:
            raise ForecastBundleError(f"{folder / _MANIFEST}: {first_error(error)[1]}") from error
        for name, data in files.items():
            if hashlib.sha256(data).hexdigest() != manifest.files[name]:
                raise ForecastBundleError(
                    f"{folder / name} is not the file that the manifest names: get the bundle again"
                )
        ours = (POLLUTANTS, WEATHER_CHANNELS, QUANTILES, ANCHORS)
        if (manifest.pollutants, manifest.weather, manifest.quantiles, manifest.anchors) != ours:
            raise ForecastBundleError(
                f"{folder} was made for other pollutants, weather or horizons: train it again"
            )
        missing = [
            name for name in (_TABLES, *(entry.file for entry in manifest.networks)) if name not in files
        ]
        if missing:
            raise ForecastBundleError(f"{folder / _MANIFEST} names no {missing[0]} among its files")
        typical = manifest.normalisation.typical
        return ForecastBundle(manifest, ForecastTables.unpacked(files.pop(_TABLES), typical), files)


def write_forecast_bundle(
    folder: Path, name: str, version: str, networks: list[tuple[NetworkEntry, bytes]], tables: ForecastTables,
    by: Normalisation, training: ForecastTraining,
) -> ForecastManifest:  # fmt: skip
    """Write a bundle into `folder` (made, or overwritten), the manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {entry.file: graph for entry, graph in networks} | {_TABLES: tables.packed()}
    manifest = ForecastManifest(
        name=name, version=version, networks=tuple(entry for entry, _ in networks),
        normalisation=NormalisationEntry(
            typical=by.typical, weather_mean=by.weather_mean, weather_std=by.weather_std
        ),
        training=training, files={file: hashlib.sha256(data).hexdigest() for file, data in files.items()},
    )  # fmt: skip
    for file, data in files.items():
        (folder / file).write_bytes(data)
    (folder / _CARD).write_text(_card(manifest, sum(map(len, files.values()))))
    (folder / _MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
    return manifest


def _card(manifest: ForecastManifest, size: int) -> str:
    training = manifest.training
    return (
        f"# {manifest.name} {manifest.version}\n\n"
        f"Forecasts of {', '.join(training.learned)} for 1 to {HORIZON} hours: quantiles and a mean.\n\n"
        f"* Models: persistence, seasonal naive, climatology, ridge, boosted trees,"
        f" {', '.join(entry.name for entry in manifest.networks) or 'no network'}, and their mix.\n"
        f"* Data: {training.data}, {len(training.stations)} stations ({', '.join(training.stations)}),"
        f" {training.begins} to {training.ends}. Every seventh week only checked the learning.\n"
        f"* Licence of the data: {training.licence}.\n"
        f"* Size: {size / 1e6:.1f} MB.\n"
        + (f"\n{training.remarks}\n" if training.remarks else "")
        + "\nThe climate and the levels of the air are those of the training data: elsewhere train it"
        " on your own (docs/forecasts.md).\n"
    )
