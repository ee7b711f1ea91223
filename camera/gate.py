"""The image quality gate: may this frame be used to say anything about the air?

Each test looks for one way in which a camera fails; haze and fog are not failures, so no test may rest
on low contrast alone. Thresholds were set on trafficcams, india-nepal and milan-webcam (docs/camera.md
has the measured precision and recall). Pure: what must be remembered between frames is a small
`GateState` passed in and out.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from camera.image import DecodedFrame
from camera.sun import sun_elevation
from schemas.times import HOUR_MS

#: Reasons for refusal, with their meaning.
REASONS: Final[dict[str, str]] = {
    "night": "the sun is down, or too dim to tell haze from darkness",
    "dark": "the sun is up but the picture is dark",
    "overexposed": "nearly all of the picture is burnt out to white",
    "blurred": "edges are smeared: out of focus, shaken or a wet lens",
    "blocked": "no structure at all: the lens is covered",
    "card": "a placeholder card instead of a scene (camera offline, camera in use)",
    "greyscale": "the picture has no colour: infrared mode or a colour failure",
    "corrupt": "part of the picture is a repetition of its last rows or a flat fill, below or at a side",
    "frozen": "the scene is pixel for pixel one that was seen before",
    "stale": "the scene has been frozen for an hour or more",
}

#: Sun elevation in degrees below which a frame counts as night. Street lamps take over from skylight at
#: about -5.
NIGHT_ELEVATION: Final = -3.0
#: Luminance (0-255) that the brightest tenth of a daylight frame exceeds.
DAYLIGHT_P90: Final = 136.0
#: Luminance that all but the darkest twentieth of a picture, or all but its darkest three tenths, exceed
#: where the exposure was wrong: it is set to mid-grey. Of 1,419 real ones the darkest twentieth is below 182.
BURNT_P5: Final = 230.0
BURNT_P30: Final = 250.0
#: Laplacian over gradient at the strongest edges: a sharp edge has 1 or more, a Gaussian blur of 1 px
#: 0.5, of 2 px 0.25. Weak edges may be clouds, which are soft by themselves.
SHARP_RATIO: Final = 0.62
SHARP_RATIO_WEAK: Final = 0.45
#: Gradient (levels a pixel) of the strongest edges: below the first sharpness cannot be judged, from
#: the second on they are things, not clouds.
STRUCTURE: Final = 2.0
STRONG_EDGE: Final = 10.0
#: Standard deviation of luminance below which nothing is in the picture.
BLOCKED_SPREAD: Final = 3.0
#: Share of pixels within one level of the commonest luminance that makes a card, and the contrast it
#: has beside.
CARD_SHARE: Final = 0.55
CARD_EDGE: Final = 30.0
#: Mean distance of the channels from their mean below which there is no colour.
GREY_CHROMA: Final = 0.7
#: Share of rows, anywhere, that repeat the row above although they have structure along them.
REPEATED_ROWS: Final = 0.12
#: Share of the width, from the left or right edge, that is a fill: columns of one colour within these levels
#: (standard deviation over all of them). A sky down to the lower edge varies by 1.5 and more. A
#: tenth of the file's width is less here: the block that the edge runs through hides some columns.
SIDE_SHARE: Final = 0.06
SIDE_LEVELS: Final = 2
SIDE_SPREAD: Final = 0.8
#: After this long the same scene is stale.
STALE_AFTER_MS: Final = HOUR_MS
#: Scenes remembered per camera.
REMEMBERED: Final = 16


@dataclass(frozen=True, slots=True)
class GateState:
    """Digests of the last scenes of one camera and when (event time, ms) each was first seen."""

    seen: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class FrameVerdict:
    """What the gate says of one frame.

    Attributes:
        usable: no reason speaks against the frame.
        reasons: keys of `REASONS`, in its order.
        scores: the measured quantity behind each test, for metrics and tuning.
        digest: identity of the scene (burnt-in text at top and bottom left out), for `remember`.
    """

    usable: bool
    reasons: tuple[str, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    digest: str = ""


def judge(
    frame: DecodedFrame,
    captured_at_ms: int,
    position: tuple[float, float] | None = None,
    previous: GateState | None = None,
) -> FrameVerdict:
    """Judge one frame.

    Args:
        frame: the decoded frame.
        captured_at_ms: event time of the frame, ms since the epoch, UTC.
        position: (latitude, longitude) of the camera in degrees, if known.
        previous: what `remember` returned after this camera's earlier frames.

    Returns:
        The verdict. Judging the same frame again, after it was remembered, gives the same verdict.
    """
    luminance = frame.luminance.astype(np.float32)
    # What a decoder painted over says nothing of the light.
    intact = frame.intact.of(frame.luminance)
    found: set[str] = set()
    bright = float(np.percentile(intact, 90.0))
    scores = {"bright": bright}
    dim = bright < DAYLIGHT_P90
    if position is None:
        if dim:
            found.add("night")
    else:
        scores["sun_elevation"] = sun_elevation(captured_at_ms, *position)
        if scores["sun_elevation"] < NIGHT_ELEVATION:
            found.add("night")
        elif dim:
            found.add("dark")

    p5, p30 = np.percentile(intact, (5.0, 30.0))
    scores["p5"] = float(p5)
    if p5 > BURNT_P5 or p30 > BURNT_P30:
        found.add("overexposed")

    spread = float(luminance.std())
    scores["spread"] = spread
    if spread < BLOCKED_SPREAD:
        found.add("blocked")

    # What is left of a picture that broke off may be sky alone: neither sharp nor colourful, and no fault.
    whole = frame.lost == 0.0
    scene = _scene(frame.luminance)
    edge, sharpness = _sharpness(scene)
    scores |= {"edge": edge, "sharpness": sharpness}
    soft = sharpness < (SHARP_RATIO if edge >= STRONG_EDGE else SHARP_RATIO_WEAK)
    if whole and edge >= STRUCTURE and soft:
        found.add("blurred")

    # A card is of its one colour above its lettering too; a scene that broke off is not.
    share, contrast, colour = _flatness(frame.luminance)
    scores |= {"card_share": share, "card_edge": contrast}
    above, _, colour_above = _flatness(intact)
    is_card = share > CARD_SHARE and contrast > CARD_EDGE
    if is_card and above > CARD_SHARE and abs(colour - colour_above) <= 1:
        found.add("card")

    scores["chroma"] = _chroma(frame.whole)
    if whole and scores["chroma"] < GREY_CHROMA:
        found.add("greyscale")

    scores["repeated_rows"] = _repeated_rows(luminance)
    scores["lost"] = frame.lost
    scores["side_fill"] = _side_fill(luminance)
    torn = not whole or scores["side_fill"] >= SIDE_SHARE
    if scores["repeated_rows"] > REPEATED_ROWS or (torn and not found & {"card", "blocked"}):
        found.add("corrupt")

    digest = hashlib.blake2b(scene.tobytes(), digest_size=8).hexdigest()
    first = next((at for seen, at in previous.seen if seen == digest), None) if previous is not None else None
    if first is not None and first < captured_at_ms:
        found.add("frozen")
        if captured_at_ms - first >= STALE_AFTER_MS:
            found.add("stale")
    reasons = tuple(reason for reason in REASONS if reason in found)
    return FrameVerdict(not reasons, reasons, scores, digest)


def remember(previous: GateState | None, verdict: FrameVerdict, captured_at_ms: int) -> GateState:
    """The state after a frame; idempotent, and the earliest sighting of a scene wins."""
    seen = dict(previous.seen) if previous is not None else {}
    seen[verdict.digest] = min(captured_at_ms, seen.get(verdict.digest, captured_at_ms))
    latest = sorted(seen.items(), key=lambda item: (item[1], item[0]))[-REMEMBERED:]
    return GateState(tuple(latest))


def _scene(luminance: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The rows between burnt-in captions: the middle three quarters."""
    rows = len(luminance)
    return np.ascontiguousarray(luminance[rows // 8 : rows - rows // 8])


class _Sharpness(NamedTuple):
    """Gradient of the strongest 3 % of edges, and Laplacian over gradient there."""

    edge: float
    ratio: float


def _sharpness(scene: NDArray[np.uint8]) -> _Sharpness:
    """How sharp the scene is.

    Blurring with sigma scales an edge's gradient by 1/sigma and its Laplacian by 1/sigma^2, haze scales
    both alike: so the ratio sees blur and is blind to haze.
    """
    plane = scene.astype(np.float32)
    centre = plane[1:-1, 1:-1]
    gradient = (
        np.maximum(np.abs(plane[1:-1, 2:] - plane[1:-1, :-2]), np.abs(plane[2:, 1:-1] - plane[:-2, 1:-1]))
        / 2.0
    )
    laplacian = np.abs(4.0 * centre - plane[:-2, 1:-1] - plane[2:, 1:-1] - plane[1:-1, :-2] - plane[1:-1, 2:])
    edge = float(np.percentile(gradient, 97.0))
    strong = (gradient >= edge) & (gradient > 0.0)
    if not strong.any():
        return _Sharpness(0.0, 0.0)
    return _Sharpness(edge, float(laplacian[strong].mean() / gradient[strong].mean()))


class _Flatness(NamedTuple):
    """What tells a card, one flat colour with lettering on it, from a hazy sky, which has no lettering."""

    share: float  #: of pixels on the commonest luminance, one level either side
    contrast: float  #: 99th percentile of the distance of all pixels from it
    colour: int  #: that luminance


def _flatness(luminance: NDArray[np.uint8]) -> _Flatness:
    counts = np.bincount(luminance.ravel(), minlength=256)
    runs = np.convolve(counts, (1, 1, 1), mode="same")
    mode = int(runs.argmax())
    away = np.abs(luminance.astype(np.int16) - mode)
    return _Flatness(float(runs[mode]) / luminance.size, float(np.percentile(away, 99.0)), mode)


def _chroma(whole: NDArray[np.uint8]) -> float:
    """Mean of (largest - smallest channel) over a grid of pixels, in levels."""
    grid = whole[::4, ::4]
    return float((grid.max(axis=2) - grid.min(axis=2)).mean())


def _repeated_rows(luminance: NDArray[np.float32]) -> float:
    """Share of rows that equal the row above although the picture varies along them: what a decoder or
    encoder that lost its data paints.
    """
    down = np.abs(luminance[1:] - luminance[:-1]).mean(axis=1)
    along = np.abs(luminance[:, 1:] - luminance[:, :-1]).mean(axis=1)[1:]
    return float(((down < 0.3) & (along > 1.5)).mean())


def _side_fill(luminance: NDArray[np.float32]) -> float:
    """Share of the width that columns of one colour take at one side; 0 for equal bars at both (a format)."""
    left, right = _columns_of_one(luminance), _columns_of_one(luminance[:, ::-1])
    if abs(left - right) <= 0.02 * luminance.shape[1]:
        return 0.0
    return float(max(left, right) / luminance.shape[1])


def _columns_of_one(luminance: NDArray[np.float32]) -> int:
    """How many columns from the left are of the first one's colour, as a fill is."""
    level = np.median(luminance[:, 0])
    same = (np.abs(luminance - level) <= SIDE_LEVELS).mean(axis=0) >= 0.98
    count = len(same) if same.all() else int(same.argmin())
    return count if count and luminance[:, :count].std() <= SIDE_SPREAD else 0
