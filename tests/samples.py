"""Estimates for tests: by hand, and drawn by hypothesis."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from schemas.base import from_ms
from schemas.estimate import (
    Estimate,
    FrameUse,
    IndexBlock,
    Inputs,
    ModelOutput,
    PollutantEstimate,
    ValueKind,
    Window,
)
from schemas.parameters import POLLUTANTS

#: A whole hour, and midnight, UTC.
T0 = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


def measured(value: float, **more: Any) -> PollutantEstimate:
    fields: dict[str, Any] = {"value": value, "kind": "measured", "qc": 1, "raw": value, "n": 3}
    return PollutantEstimate(**fields | more)


def imputed(value: float, lo: float | None, hi: float | None, **more: Any) -> PollutantEstimate:
    fields: dict[str, Any] = {"value": value, "kind": "imputed", "qc": 9, "lo": lo, "hi": hi}
    return PollutantEstimate(**fields | {"method": "camera"} | more)


def index(value: int | None = 50, **more: Any) -> IndexBlock:
    levels = [(50, "good"), (100, "moderate"), (150, "unhealthy_sensitive"), (200, "unhealthy")]
    level, category = next(
        ((n, name) for n, (top, name) in enumerate(levels) if value is not None and value <= top),
        (4, "very_unhealthy"),
    )
    fields: dict[str, Any] = {
        "standard": "us-epa-2024", "index": value, "category": category, "level": level,
        "dominant": ("pm25",), "status": "valid", "imputed_share": 0.0, "subindices": {"pm25": value},
    }  # fmt: skip
    if value is None:
        fields |= {
            "category": None,
            "level": None,
            "dominant": (),
            "status": "insufficient",
            "subindices": {},
        }
    return IndexBlock(**fields | more)


def estimate(
    station: str = "s1",
    end: int = T0 + 60,
    revision: int = 1,
    pollutants: Mapping[Any, PollutantEstimate] | None = None,
    indices: tuple[IndexBlock, ...] | None = None,
    **more: Any,
) -> Estimate:
    """An estimate of the minute that ends at `end` (seconds)."""
    fields: dict[str, Any] = {
        "station": station,
        "window": Window(start=from_ms((end - 60) * 1000), end=from_ms(end * 1000)),
        "revision": revision,
        "sides": "both",
        "pollutants": {"pm25": measured(12.0)} if pollutants is None else pollutants,
        "indices": (index(),) if indices is None else indices,
        "inputs": Inputs(readings=revision),
        "bundle": "bundle-1",
    }
    return Estimate(**fields | more)


_concentrations = st.floats(0, 5000, allow_nan=False).map(lambda value: round(value, 3))
_words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")) | st.sampled_from('"\\ ,=\n\r\t'),
    max_size=24,
)


@st.composite
def pollutants(draw: st.DrawFn) -> PollutantEstimate:
    value = draw(_concentrations)
    kind: ValueKind = draw(st.sampled_from(["measured", "corrected", "imputed"]))
    bounds = sorted([draw(_concentrations), draw(_concentrations)])
    lo, hi = bounds if kind == "imputed" and draw(st.booleans()) else (None, None)
    return PollutantEstimate(
        value=value, kind=kind, qc=draw(st.sampled_from([1, 2, 3, 4, 9])), qc_tests=draw(st.integers(0, 255)),
        lo=lo, hi=hi, method=draw(st.sampled_from(["mean", "camera", "last"])),
        raw=draw(st.none() | _concentrations), n=draw(st.integers(0, 60)),
        sensors=tuple(draw(st.lists(st.sampled_from(["a", "b"]), unique=True))),
    )  # fmt: skip


@st.composite
def indices(draw: st.DrawFn, standard: str) -> IndexBlock:
    value = draw(st.none() | st.integers(0, 900))
    ends = {name: draw(st.none() | st.integers(0, 900)) for name in ("lo", "hi", "nowcast_lo", "nowcast_hi")}
    sub = st.dictionaries(st.sampled_from(POLLUTANTS), st.integers(0, 900), max_size=6)
    return index(
        value, standard=standard, reason=draw(_words), imputed_share=draw(st.floats(0, 1)),
        nowcast=draw(st.none() | st.integers(0, 900)), subindices=draw(sub) if value is not None else {},
        **ends,
    )  # fmt: skip


@st.composite
def models(draw: st.DrawFn) -> ModelOutput:
    lo, aqi, hi = sorted(draw(st.floats(0, 500)) for _ in range(3))
    if draw(st.booleans()):
        return ModelOutput(aqi=aqi, sensors={}, lo=lo, hi=hi)
    return ModelOutput(aqi=aqi, sensors={})


@st.composite
def estimates(draw: st.DrawFn, stations: tuple[str, ...] = ("s1", "s2"), windows: int = 3) -> Estimate:
    """Any estimate of few stations and windows, so that revisions of the same window are frequent."""
    end = T0 + 60 * draw(st.integers(1, windows))
    frames = draw(st.lists(st.booleans(), max_size=3))
    return estimate(
        draw(st.sampled_from(stations)), end, draw(st.integers(1, 5)),
        draw(st.dictionaries(st.sampled_from(POLLUTANTS), pollutants(), max_size=6)),
        tuple(draw(indices(standard)) for standard in ("us-epa-2024", "in-naqi-2014")),
        model=draw(st.none() | models()),
        inputs=Inputs(
            readings=draw(st.integers(0, 99)), humidity=draw(st.none() | st.floats(0, 100)),
            frames=tuple(
                FrameUse(camera="main", captured_at=from_ms((end - 30 + n) * 1000), usable=usable,
                         reasons=() if usable else ("night",))
                for n, usable in enumerate(frames)
            ),
        ),
        bundle=draw(st.sampled_from(["bundle-1", "bundle-2"])),
    )  # fmt: skip
