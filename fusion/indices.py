"""The indices of many windows at once, by the standards that their stations declare."""

from collections.abc import Sequence

from aqi import standards
from aqi.history import History
from aqi.index import IndexResult, assess_many
from fusion.inference import ROWS_A_RUN, tidy
from fusion.intake import DEFAULT_STANDARDS
from schemas.estimate import IndexBlock
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.station import Station


def standards_of(station: Station | None) -> tuple[str, ...]:
    """The standards of a station, or of one that nobody knows."""
    return station.standards if station else DEFAULT_STANDARDS


def indices(windows: Sequence[tuple[tuple[str, ...], History, int]]) -> list[list[IndexBlock]]:
    """Per (standards, history, end of the window) the indices by them, the leading one first.

    All windows of a standard are assessed together; what comes out does not depend on the company.
    """
    loaded: dict[str, standards.Standard] = {}
    asked: dict[str, list[int]] = {}
    wanted = []
    for place, (names, _, end) in enumerate(windows):
        chosen = [standards.load(name, at_ms=end) for name in names]
        wanted.append([standard.id for standard in chosen])
        for standard in chosen:
            loaded[standard.id] = standard
            asked.setdefault(standard.id, []).append(place)
    blocks: dict[tuple[str, int], IndexBlock] = {}
    for name, places in asked.items():
        for start in range(0, len(places), ROWS_A_RUN):
            part = places[start : start + ROWS_A_RUN]
            results = assess_many(
                loaded[name], [windows[place][1] for place in part], [windows[place][2] for place in part]
            )
            for place, result in zip(part, results, strict=True):
                blocks[name, place] = _block(loaded[name], result)
    return [[blocks[name, place] for name in names] for place, names in enumerate(wanted)]


def _block(standard: standards.Standard, result: IndexResult) -> IndexBlock:
    best: dict[Pollutant, int] = {}
    for sub in result.subindices:
        for name in POLLUTANTS:
            if name == sub.parameter:
                best[name] = max(sub.index, best.get(name, 0))
    return IndexBlock(
        standard=result.standard,
        index=result.index,
        category=None if result.category is None else result.category.name,
        level=None if result.category is None else standard.categories.index(result.category),
        dominant=tuple(name for name in POLLUTANTS if name in result.dominant),
        status=result.status,
        reason=result.reason,
        imputed_share=tidy(result.imputed_share),
        lo=result.lo,
        hi=result.hi,
        nowcast=None if result.nowcast is None else result.nowcast.index,
        nowcast_lo=None if result.nowcast is None else result.nowcast.lo,
        nowcast_hi=None if result.nowcast is None else result.nowcast.hi,
        nowcast_reason=result.nowcast_reason,
        subindices=best,
    )
