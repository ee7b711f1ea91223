"""Numbers by which sensors say that they have no value."""

from collections.abc import Iterable

from aqi.quality_defaults import Defaults


def plain_model(model: str) -> str:
    """A type of sensor as aqi/sensors.toml writes it: "BAM 1020" and "bam-1020" are one."""
    return "".join(letter for letter in model.lower() if letter.isalnum())


def fill_numbers(
    limits: Defaults, parameter: str, model: str = "", own: Iterable[float] = ()
) -> tuple[float, ...]:
    """The numbers that mean no value of a parameter: any sensor's, those of its `model`, and its `own`."""
    known = limits.fill_values
    fills = known.get("any", {}).get(parameter, ())
    return (*fills, *known.get(plain_model(model), {}).get(parameter, ()), *own)


def is_fill_value(value: float, unit: str, numbers: Iterable[float]) -> bool:
    """Whether a value in `unit` is one of the numbers that mean none (single precision is enough).

    As it was sent; and what comes in mg/m3 or ppm also in the thousandths in which instruments show it, for a
    gateway between them may have scaled it.
    """
    scales = (1.0, 1000.0) if unit in ("mg/m3", "ppm") else (1.0,)
    return any(
        abs(scale * value - number) <= 1e-6 * max(1.0, abs(number)) for number in numbers for scale in scales
    )
