"""The networks: convolutions and an LSTM over the past, an LSTM over the hours to come, with attention or
without.

CNN-LSTM as in Zhang and Li 2022 (Chemosphere 308:136180), the attention over the past as in Yuan et al. 2025
(Sci Rep, s41598-025-05877-2); theirs see one station, one pollutant and one step ahead. Here one network
serves all stations, pollutants and hours, says quantiles, and its second LSTM reads the weather to come
where there is one. FL-CNN-LSTM (Bao et al. 2022) is shown the fuzzy grades of the past besides.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, Literal, get_args

import torch
from torch import nn

from forecast.errors import ForecastError
from forecast.features import FUTURE, OWN_LEVELS, PAST
from forecast.grades import category_edges
from forecast.panel import QUANTILES
from schemas.parameters import POLLUTANTS

Architecture = Literal["cnn-lstm", "cnn-lstm-attention", "fl-cnn-lstm", "gru", "mixer"]
#: Whose categories the fuzzy grades are: the one that has some for all six pollutants by the hour.
_GRADED_BY: Final = ("us-epa-2024", 25.0)
_MEDIAN = QUANTILES.index(0.5)
_OUT = len(QUANTILES) + 1


def architectures(named: Sequence[str]) -> Iterator[Architecture]:
    """Those of these names, each once. Raises ForecastError where there is none of a name."""
    for name in dict.fromkeys(named):
        known = [kind for kind in get_args(Architecture) if kind == name]
        if not known:
            raise ForecastError(
                f"no network is called {name!r}: there are {', '.join(get_args(Architecture))}"
            )
        yield from known


class FuzzyGrades(nn.Module):
    """How far each pollutant has passed from the middle of one category to that of the next (0 to 1), for all
    categories: past (n, window, PAST) -> (n, window, `columns`).

    A value's membership in a grade, which is 1 in its middle and passes linearly to the next one, is the
    difference of two of these; the linear layer that follows makes it.
    """

    def __init__(self, typical: Sequence[float]) -> None:
        super().__init__()
        of, low, high = [], [], []
        for column, edges in category_edges(*_GRADED_BY).items():
            ends = [0.0, *edges, 2 * edges[-1] - edges[-2]]
            middles = [(one + other) / 2 / typical[column] for one, other in pairwise(ends)]
            of += [column] * len(edges)
            low += middles[:-1]
            high += middles[1:]
        self.columns = len(of)
        self.register_buffer("of", torch.tensor(of))
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("wide", torch.tensor(high) - torch.tensor(low))

    def forward(self, past: Any) -> Any:
        levels = past[..., OWN_LEVELS].index_select(-1, self.of)
        return ((levels - self.low) / self.wide).clamp(0.0, 1.0)


class Network(nn.Module):
    """past (n, window, PAST), future (n, 72, FUTURE) -> (n, 72, pollutants, 7 quantiles and the mean).

    What comes out is the change since the last value, in units of `spread` (72, pollutants): how far
    persistence is off. `typical` is `Normalisation.typical`.
    """

    def __init__(
        self, kind: Architecture, window: int, width: int, dropout: float, typical: Sequence[float]
    ) -> None:
        super().__init__()
        self.kind, self.window = kind, window
        self.grades = FuzzyGrades(typical) if kind == "fl-cnn-lstm" else None
        shown = PAST + (0 if self.grades is None else self.grades.columns)
        self.inner = nn.Sequential(nn.Linear(shown, width), nn.ReLU(), nn.Dropout(dropout))
        self.convolved = nn.Sequential(
            nn.Conv1d(width, width, 5, padding=2), nn.ReLU(), nn.Conv1d(width, width, 5, padding=2), nn.ReLU()
        )
        cell = nn.GRU if kind == "gru" else nn.LSTM
        self.recurrent = kind != "mixer"
        if self.recurrent:
            self.encoder = cell(width, width, batch_first=True)
            self.decoder = cell(FUTURE + 1, width, batch_first=True)
        else:
            self.over_time = nn.Linear(window, 72)
            self.decoder = nn.LSTM(FUTURE + 1 + width, width, batch_first=True)
        self.attends = kind == "cnn-lstm-attention"
        if self.attends:
            self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.now = nn.Linear(PAST, width)
        self.head = nn.Sequential(
            nn.Linear(width * (3 if self.attends else 2), width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, len(POLLUTANTS) * _OUT),
        )  # fmt: skip
        self.register_buffer("steps", torch.linspace(0, 1, 72)[None, :, None])

    def forward(self, past: Any, future: Any) -> Any:
        shown = past if self.grades is None else torch.cat([past, self.grades(past)], -1)
        seen = self.inner(shown)
        if self.kind != "gru":
            seen = seen + self.convolved(seen.transpose(1, 2)).transpose(1, 2)
        steps = self.steps.expand(future.shape[0], -1, -1)
        ahead = torch.cat([future, steps], -1)
        if self.recurrent:
            states, last = self.encoder(seen)
            decoded, _ = self.decoder(ahead, last)
        else:
            states = seen
            mixed = self.over_time(seen.transpose(1, 2)).transpose(1, 2)
            decoded, _ = self.decoder(torch.cat([ahead, mixed], -1))
        now = self.now(past[:, -1:]).expand(-1, 72, -1)
        parts = [decoded, torch.relu(now)]
        if self.attends:
            scores = self.query(decoded) @ self.key(states).transpose(1, 2) / states.shape[-1] ** 0.5
            parts.append(torch.softmax(scores, -1) @ states)
        out = self.head(torch.cat(parts, -1)).reshape(-1, 72, len(POLLUTANTS), _OUT)
        middle, gaps, mean = out[..., :1], nn.functional.softplus(out[..., 1:-1]), out[..., -1:]
        below, above = gaps[..., :_MEDIAN], gaps[..., _MEDIAN:]
        # Gaps are summed outwards from the median: quantiles cannot cross.
        lower = [middle - below[..., step:].sum(-1, keepdim=True) for step in range(_MEDIAN)]
        upper = [
            middle + above[..., : step + 1].sum(-1, keepdim=True)
            for step in range(len(QUANTILES) - 1 - _MEDIAN)
        ]
        return torch.cat([*lower, middle, *upper, middle + mean], -1)


def loss(out: Any, target: Any) -> Any:
    """Pinball of the quantiles and a third of the squared error of the mean; `target` (n, 72, pollutants),
    NaN unknown.
    """
    known = ~torch.isnan(target)
    truth = torch.nan_to_num(target)[..., None]
    levels = torch.tensor(QUANTILES, device=out.device)
    miss = truth - out[..., :-1]
    pinball = torch.maximum(levels * miss, (levels - 1) * miss).mean(-1)
    square = nn.functional.huber_loss(out[..., -1], truth[..., 0], reduction="none", delta=4.0)
    return ((2 * pinball + square / 3) * known).sum() / known.sum().clamp(min=1)
