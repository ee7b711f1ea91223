"""The part of a picture that was never received: what a decoder paints where a key frame broke off.

A gateway that saves a half-decoded frame of a video stream sends a sound JPEG whose lower part is one colour
(grey, green, black: whatever its buffer held) or repeats the last row, or the last row of macroblocks, that
arrived. No camera does that: its noise makes every row differ. Of 5,921 real frames (docs/camera.md) none has
5 % of its rows alike to within a level.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Share of the height from which on a lower part of one colour is a loss. A little under a tenth, since the
#: block that the edge runs through hides some rows; captions of one colour are lower.
FLAT_SHARE: Final = 0.09
#: What must be there whole; enough for rows that vary along themselves and repeat, as no caption does.
WHOLE_SHARE: Final = 0.05
#: Above this nothing of a scene is left to lose: a covered lens, a card.
_ALL: Final = 0.97
#: Side of a macroblock in pixels: the last one received may end anywhere in its row.
MACROBLOCK: Final = 16
#: Longest repetition that is looked for, in rows.
_LONGEST_PERIOD: Final = 64
#: Columns that are looked at.
_COLUMNS: Final = 256
#: Share of a row that must agree.
_AGREE: Final = 0.98
#: Levels within which a fill stays one colour when it is compressed again; its mean; near an edge; and
#: within which what comes after it would be more of the same.
_LEVELS: Final = 4
_MEAN_LEVELS: Final = 1.0
_EDGE_LEVELS: Final = 16
_NEAR_LEVELS: Final = 8


def lost_share(luminance: NDArray[np.uint8], sent_rows: int) -> float:
    """Share of the height, from the last row up, that is a fill or repeats itself; 0 for a whole picture.

    Args:
        luminance: uint8 (H, W), rows in the order in which the file stores them.
        sent_rows: height of the picture as sent, of which H may be a reduction.
    """
    step = max(1, luminance.shape[1] // _COLUMNS)
    rows = luminance[::-1, ::step].astype(np.int16)  # the last row first
    scale = len(rows) / sent_rows
    if _has_bars(rows):
        return 0.0
    flat = _flat(rows, max(1, round(MACROBLOCK * scale)))
    return min(max(flat, _repeated(rows, math.ceil(sent_rows % MACROBLOCK * scale))), _ALL)


def _has_bars(rows: NDArray[np.int16]) -> bool:
    """One colour below and, as high, above: bars that fill a format, not a loss."""
    enough = int(WHOLE_SHARE * len(rows)) + 1
    same = _one_colour(rows, int(np.median(rows[:enough])))
    below, above = _run(same), _run(same[::-1])
    return enough <= below < len(rows) and abs(above - below) <= 0.02 * len(rows)


def _flat(rows: NDArray[np.int16], block: int) -> float:
    """Share of the height that is one colour, if that ends with a row of blocks and not gradually."""
    height = len(rows)
    enough = int(WHOLE_SHARE * height) + 1
    level = int(np.median(rows[:enough]))
    whole = _run(_one_colour(rows, level))
    if not enough <= whole <= _ALL * height:
        return 0.0
    torn = rows[whole : whole + block]
    beyond = rows[whole + block : whole + 2 * block]
    # A smooth sky or a snow field has no such edge (it goes on a little further in nearly the same colour),
    # and the empty margin of a caption goes on above its text. Neither is a third of a picture high.
    goes_on = len(beyond) and (np.abs(beyond - level) <= _NEAR_LEVELS).mean() > 0.5
    if goes_on and whole < height / 3:
        return 0.0
    share = (whole + _filled_from_the_right(torn, level)) / height
    return share if share >= FLAT_SHARE else 0.0


def _one_colour(rows: NDArray[np.int16], level: int) -> NDArray[np.bool_]:
    away = rows - level
    agree = (np.abs(away) <= _LEVELS).mean(axis=1) >= _AGREE
    same: NDArray[np.bool_] = agree & (np.abs(away.mean(axis=1)) <= _MEAN_LEVELS)
    return same


def _filled_from_the_right(rows: NDArray[np.int16], level: int) -> float:
    """Rows' worth of fill in the row of blocks in which the data ended: from there on, to the right."""
    away = np.abs(rows[:, ::-1] - level)
    upto = np.arange(1, rows.shape[1] + 1)
    torn = ((away <= _LEVELS).cumsum(axis=1) >= 0.95 * upto) * upto / rows.shape[1]
    # A block that the edge runs through is uneven to both sides of it when it is compressed again.
    uneven = (away <= _EDGE_LEVELS).mean(axis=1) >= 0.9
    return float(np.maximum(torn.max(axis=1, initial=0.0), uneven).sum())


def _repeated(rows: NDArray[np.int16], cut: int) -> float:
    """Share of the height in which the same few rows come again and again.

    The `cut` last rows are passed over: a picture whose height is no multiple of a block ends in the middle
    of one, which compresses to something else than its repetitions above.
    """
    whole = rows[cut:]
    if np.ptp(whole[0]) <= 2:
        return 0.0  # one colour: `_flat` judges where it ends, for the empty margin of a caption repeats too
    periods = np.arange(1, min(_LONGEST_PERIOD, len(whole) // 2) + 1)
    share = 0.0
    for period in periods[_alike(whole[periods], whole[0])]:
        pattern = whole[np.arange(len(whole)) % period]
        again = _run(_alike(whole[period:], pattern[period:]))
        if cut + again >= WHOLE_SHARE * len(rows):
            share = (cut + period + again) / len(rows)
            break  # longer ones are its multiples
    return share


def _alike(rows: NDArray[np.int16], others: NDArray[np.int16]) -> NDArray[np.bool_]:
    alike: NDArray[np.bool_] = (np.abs(rows - others) <= 1).mean(axis=1) >= _AGREE
    return alike


def _run(flags: NDArray[np.bool_]) -> int:
    """How many are true before the first that is not."""
    return len(flags) if flags.all() else int(flags.argmin())
