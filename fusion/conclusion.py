"""Second pass over a window: measured where a measurement is usable, otherwise imputed; its estimate."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aqi.flags import MISSING, STUCK, SUSPECT, UNIT
from aqi.history import History
from aqi.slots import Mean
from camera.far_band import BandFinder
from camera.virtual_sensor import Prediction
from fusion.bounds import Interval, bounded
from fusion.indices import indices, standards_of
from fusion.inference import Inference, tidy
from fusion.intake import Prepared, reference
from fusion.learning import Air, HeadSaid, learned, virtual_estimate
from fusion.sensors.choice import nearer
from fusion.sensors.measured import Disputed, Measured
from model.bundle.persistence import PERSISTENCE
from schemas.base import from_ms, to_ms
from schemas.estimate import (
    Estimate,
    IndexBlock,
    Inputs,
    MissingPollutant,
    PollutantEstimate,
    Window,
)
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.station import CameraBands, FarBand, FoundBand, Station


class Conclusion(NamedTuple):
    """All that an estimate is made of; `history` has the window itself in it."""

    window: Prepared
    inferred: "Inference | None"
    pollutants: Mapping[Pollutant, PollutantEstimate]
    history: History


def conclude(window: Prepared, inferred: Inference | None, air: Air) -> dict[Pollutant, PollutantEstimate]:
    """Measured where there is a usable measurement, otherwise imputed.

    Where the station has ever measured the pollutant, its virtual sensor imputes: camera, last measurement
    and global head, each by its recent errors; before there are any, the last measurement. Otherwise the
    global head alone, where it speaks and has the pollutant's trust; what nobody knows is left out. Imputed
    values are `bounded`.
    """
    pollutants: dict[Pollutant, PollutantEstimate] = {}
    imputed: dict[Pollutant, Interval] = {}
    grounds: dict[Pollutant, _Basis] = {}
    usable = dict(window.measured)
    refused = {name: dict(sorted(window.refused.get(name, {}).items())) for name in POLLUTANTS}
    for index, name in enumerate(POLLUTANTS):
        if name in usable:
            continue
        by_head = None if inferred is None else inferred.said(index)
        own = virtual_estimate(air, name, window.view.end, window.sight, by_head)
        supported = settled(window.disputed.get(name), own, refused[name])
        if supported is not None:
            usable[name] = supported
        elif own is not None:
            imputed[name] = Interval(own.value, own.lo, own.hi)
            grounds[name] = _Basis(own.method, own.weights, own.coverage, taught_by(own))
        elif inferred is not None and by_head is not None:
            lo, hi = (
                inferred.output.sensors_lo[inferred.row, index],
                inferred.output.sensors_hi[inferred.row, index],
            )
            imputed[name] = Interval(by_head.value, float(lo), float(hi))
            grounds[name] = _Basis("head", {}, None, {})
    possible = bounded(imputed, _values(usable))
    for name in POLLUTANTS:
        measured, failed = usable.get(name), window.failed.get(name)
        if measured is not None:
            pollutants[name] = PollutantEstimate(
                value=tidy(measured.value),
                kind="measured" if measured.method == "mean" else "corrected",
                qc=measured.flag,
                qc_tests=measured.tests | (failed.tests if failed else 0),
                method=measured.method,
                raw=tidy(measured.raw),
                n=measured.n,
                since=from_ms(measured.since) if measured.since else None,
                covered_s=measured.covered_s,
                sensors=measured.sensors,
                refused=refused[name],
            )
        elif name in possible:
            (value, lo, hi), (method, weights, coverage, teachers) = possible[name], grounds[name]
            pollutants[name] = PollutantEstimate(
                value=tidy(value),
                kind="imputed",
                qc=failed.flag if failed else MISSING,
                qc_tests=failed.tests if failed else 0,
                lo=tidy(lo),
                hi=tidy(hi),
                method=method,
                weights={source: tidy(weight) for source, weight in sorted(weights.items())},
                coverage=None if coverage is None else tidy(coverage),
                taught_by=dict(teachers),
                raw=tidy(failed.raw) if failed else None,
                refused=refused[name],
            )
    return pollutants


def settled(disputed: Disputed | None, own: Prediction | None, refused: dict[str, str]) -> Measured | None:
    """Of two measured values that disagree, the one that camera and past support; `refused` says which."""
    if disputed is None or own is None or own.weights["camera"] < 0.5:
        return None
    one, other = disputed.values
    choice = nearer(one.value, other.value, own.value)
    if choice is None:
        return None
    del refused[" and ".join(disputed.names)]
    refused[disputed.names[1 - choice]] = (
        f"disagrees with {disputed.names[choice]} ({one.value:.6g} and {other.value:.6g} ug/m3):"
        f" {own.method} says {own.value:.6g}"
    )
    return disputed.values[choice]


def missing(
    window: Prepared, pollutants: Mapping[Pollutant, PollutantEstimate]
) -> dict[Pollutant, MissingPollutant]:
    """The pollutants that were measured, of which nothing could be used, and that nothing could impute."""
    found: dict[Pollutant, MissingPollutant] = {}
    for name in POLLUTANTS:
        failed = window.failed.get(name)
        if failed is None or name in pollutants:
            continue
        refused = dict(sorted(window.refused.get(name, {}).items()))
        found[name] = MissingPollutant(
            raw=tidy(failed.raw),
            qc=failed.flag,
            qc_tests=failed.tests,
            n=failed.n,
            sensors=failed.sensors,
            refused=refused,
        )
    return found


class _Basis(NamedTuple):
    """What an imputed value rests on."""

    method: str
    weights: Mapping[str, float]
    coverage: float | None
    taught_by: Mapping[str, int]


def taught_by(own: Prediction) -> dict[str, int]:
    """Who taught the camera that has a share in what a virtual sensor says."""
    return {"sensor": own.hours} if own.weights["camera"] > 0.0 and own.hours else {}


def _values(measured: Mapping[str, Measured]) -> dict[str, float]:
    return {name: found.value for name, found in measured.items()}


def means(pollutants: Mapping[Pollutant, PollutantEstimate], size: int) -> dict[str, Mean]:
    """What a window of `size` ms adds to the averages; imputed seconds are counted as such."""
    return {
        name: Mean(
            estimate.value,
            *_seconds(estimate, size),
            0.0 if estimate.lo is None else max(0.0, estimate.value - estimate.lo),
            0.0 if estimate.hi is None else max(0.0, estimate.hi - estimate.value),
            PERSISTENCE[estimate.method] if estimate.kind == "imputed" else 1.0,
        )
        for name, estimate in pollutants.items()
    }


class Counts(NamedTuple):
    """What a window adds to the averages; and means over longer periods that end in it.

    `periods`: by pollutant the beginning (ms) of such a period, and its mean.
    """

    added: Mapping[str, Mean]
    periods: Mapping[str, tuple[int, float]]

    @classmethod
    def of(cls, pollutants: Mapping[Pollutant, PollutantEstimate], end: int, size: int) -> "Counts":
        """Of a window of `size` ms that ends at `end` (ms)."""
        periods: dict[str, tuple[int, float]] = {
            name: (since, estimate.value)
            for name, estimate in pollutants.items()
            if estimate.since is not None and (since := to_ms(estimate.since)) < end - size
        }
        return cls(means(pollutants, size), periods)

    def into(self, history: History, end: int, size: int) -> History:
        """The history with the window counted in.

        A mean over a period that has just ended is counted for all of it: its first windows were final
        before it was known, and had nothing, or something imputed.
        """
        if not self.added:
            return history
        history = history.with_window(end, size, self.added)
        for name, (since, value) in self.periods.items():
            history = history.with_period(since, end, {name: value})
        return history


def assembled(concluded: Sequence[Conclusion], bundle: str) -> list[Estimate]:
    """The estimates of windows, in their order. Indices of many at once cost a tenth of one by one."""
    blocks = indices(
        [(standards_of(one.window.station), one.history, one.window.view.end) for one in concluded]
    )
    return [
        _assembled(one, [doubted(block, one.pollutants) for block in of_it], bundle)
        for one, of_it in zip(concluded, blocks, strict=True)
    ]


def doubted(
    block: IndexBlock,
    pollutants: Mapping[Pollutant, PollutantEstimate],
    others: Mapping[Pollutant, str] | None = None,
) -> IndexBlock:
    """The index with the lasting doubts of what counts in it; it is not valid where it may be far too low.

    In the wrong unit a pollutant leads no index, and would: so any such counts. A zero that stands still may
    be clean air, and is no reason to doubt what lies above it. `others`: by pollutant, in words, what else is
    doubted; an index that it leads is not valid.
    """
    if block.index is None:
        return block
    doubts, low = [], False
    for name, sub in block.subindices.items():
        found = pollutants.get(name)
        if others and name in others:
            doubts.append(others[name])
            low = low or sub >= block.index
        if found is None or found.kind == "imputed" or found.qc != SUSPECT:
            continue
        if found.qc_tests & UNIT:
            doubts.append(f"{name} of {found.value:.3g} ug/m3 is hardly found: is its unit right?")
            low = True
        elif found.qc_tests & STUCK and found.value <= 0.0:
            doubts.append(f"{name} has stood still at {found.value:g} ug/m3 for hours")
            low = low or sub >= block.index
    if not doubts:
        return block
    status = "indicative" if low and block.status == "valid" else block.status
    reason = "; ".join([*([block.reason] if block.reason else []), "in doubt: " + ", ".join(doubts)])
    return block.model_copy(update={"status": status, "reason": reason})


def _assembled(concluded: Conclusion, blocks: Sequence[IndexBlock], bundle: str) -> Estimate:
    window, inferred, pollutants, _ = concluded
    view = window.view
    measured: dict[str, float] = {
        name: one.value for name, one in pollutants.items() if one.kind != "imputed"
    }
    return Estimate(
        station=view.station,
        window=Window(start=from_ms(view.start), end=from_ms(view.end)),
        revision=view.revision,
        sides=_sides(window),
        pollutants=dict(pollutants),
        missing=missing(window, pollutants),
        model=None if inferred is None else inferred.output_model(measured),
        indices=tuple(blocks),
        inputs=Inputs(
            readings=window.readings,
            standing=window.standing,
            frames=window.frames,
            humidity=None if window.humidity is None else tidy(window.humidity),
            weather={name: tidy(value) for name, value in window.weather.items()},
            withheld=dict(window.withheld),
        ),
        bundle=bundle,
    )


def nothing_known(station: Station | None) -> Air:
    """What is known of a station before its first window."""
    return Air(History.empty(48, reference(station)))


def learn(air: Air, window: Prepared, inferred: Inference | None, without: Mapping[str, HeadSaid]) -> Air:
    """What is known after a final window.

    Of readings that only stand over it was learned when they were heard: without a picture of its own such a
    window teaches nothing, and with one no more than what the picture shows.
    """
    if _only_stands(window) and not window.frames:
        return air
    by_head = dict(without)
    if inferred is not None:
        for index, name in enumerate(POLLUTANTS):
            said = inferred.said(index)
            if name not in window.measured and said is not None:
                by_head[name] = said
    return learned(air, window.view.end, window.sight, window.rows, taught(window), by_head)


def taught(window: Prepared) -> dict[str, float]:
    """What of a final window's measured values (ug/m3) is learned from."""
    # What quality control doubts (a stuck value, a jump) is published, but nothing is learned from it.
    # A small negative value is noise about clean air; the level that is learned is a concentration.
    return {
        name: max(0.0, found.value)
        for name, found in window.measured.items()
        if found.flag != SUSPECT and not _only_stands(window)
    }


def _only_stands(window: Prepared) -> bool:
    """Whether all of a window's readings were heard in another one."""
    return 0 < window.standing == window.readings


def new_bands(station: str, before: Air, after: Air) -> CameraBands | None:
    """All far bands that were found at a station, where that is one more than before."""

    def found(air: Air) -> dict[str, BandFinder]:
        return {camera: finder for camera, finder in air.finders.items() if finder.band() is not None}

    now = found(after)
    if after.finders is before.finders or now.keys() <= found(before).keys():
        return None
    bands = []
    for camera, finder in sorted(now.items()):
        band = finder.band()
        assert band is not None
        far = FarBand(top=band.top, bottom=band.bottom, left=band.left, right=band.right)
        bands.append(FoundBand(camera=camera, far_band=far, pairs=finder.count))
    return CameraBands(station=station, bands=tuple(bands))


def _sides(window: Prepared) -> Any:
    image, sensors = window.embedding is not None, bool(window.measured)
    return {(True, True): "both", (True, False): "image", (False, True): "sensors"}.get(
        (image, sensors), "none"
    )


def _seconds(estimate: PollutantEstimate, size: int) -> tuple[int, int]:
    whole = size // 1000
    if estimate.kind == "imputed":
        return 0, whole
    return whole if estimate.covered_s is None else min(estimate.covered_s, whole), 0
