"""What a camera of the simulated city sees: a skyline that fades as Koschmieder's law says.

Light from an object at distance d reaches the camera weakened to T = exp(-b d), and the air in between adds
airlight A (1 - T), the colour of the horizon sky. The extinction b follows from the particles and the
humidity. Everything is computed in linear light and turned into sRGB at the end.

Shapes: pictures are (HEIGHT, WIDTH, 3); distances in km, extinction in 1/km.
"""

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camera.sun import solar_hour
from schemas.arrays import Float32
from schemas.base import from_ms
from schemas.times import HOUR_MS
from sources.simulate.air import air, sun_over
from sources.simulate.city import City, SimulatedStation
from sources.simulate.noise import key, smooth, uniform

HEIGHT: Final = 360
WIDTH: Final = 640
_QUALITY: Final = 85
_HORIZON: Final = 172  # row

#: Extinction by dry particles, m2/g: middle of the range of the IMPROVE network's reconstructions
#: (Pitchford et al. 2007) for an urban mixture.
_MASS_EXTINCTION: Final = 3.5
#: Extinction by the air itself at 550 nm, 1/km.
_RAYLEIGH: Final = 0.012
#: How much more blue and less red light is scattered than green: by air (4th power of the wavelength), by
#: particles (Angstrom exponent 1.2). Red 610, green 550, blue 465 nm.
_AIR_COLOUR: Final = np.array([(550 / 610) ** 4, 1.0, (550 / 465) ** 4], np.float32)
_PARTICLE_COLOUR: Final = np.array([(550 / 610) ** 1.2, 1.0, (550 / 465) ** 1.2], np.float32)
#: Distance of each layer, km; layer 0 is the sky, the last ones are strips of the ground.
_LAYERS: Final = (math.inf, 28.0, 12.0, 6.0, 2.6, 1.0, 0.3)
_GROUND_STRIPS: Final = 24
#: How many rows below the horizon the buildings of a layer stand.
_FEET: Final = {3: 6, 4: 18, 5: 46, 6: 120}


def growth(humidity: float) -> float:
    """Extinction of particles at a relative humidity (%) over that at 30 % (Kasten 1969, exponent 0.5)."""
    dryness = 1.0 - min(humidity, 96.0) / 100.0
    return max(1.0, 1.0 / math.sqrt(dryness / 0.7))


def extinction(pm25: float, humidity: float) -> Float32:
    """Extinction for red, green and blue light, 1/km, from PM2.5 in ug/m3 and relative humidity in %."""
    particles = _MASS_EXTINCTION * pm25 * growth(humidity) / 1000.0
    return (_RAYLEIGH * _AIR_COLOUR + particles * _PARTICLE_COLOUR).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Scene:
    """What stays the same in front of one camera."""

    albedo: Float32  #: (H, W, 3), reflectance
    layer: NDArray[np.uint8]  #: (H, W), index into `distance`
    distance: Float32  #: (layers,), km
    sky: NDArray[np.bool_]  #: (rows, W, 1): which pixels of the top rows are sky
    window: NDArray[np.uint8]  #: (H, W): 0, or when this window is lit (the smaller, the longer)
    lamp: Float32  #: (H, W, 1): street lamps and their halos
    cloud: Float32  #: (rows, 2 W): a field that drifts over the sky, 0 to 1
    grain: Float32  #: (H + 64, W + 64, 1): noise of the camera, standard normal


def _octaves(rng: np.random.Generator, height: int, width: int, cells: int) -> Float32:
    """Smooth noise in [0, 1] that repeats along the width: a sum of ever finer fields."""
    total = np.zeros((height, width), np.float32)
    weight = 1.0
    while cells <= 64:
        coarse = rng.random((max(2, cells // 3) + 1, cells), np.float32)
        coarse = np.concatenate([coarse, coarse[:, :1]], axis=1)
        field = Image.fromarray(coarse).resize((width + width // cells, height), Image.Resampling.BICUBIC)
        total += weight * np.asarray(field, np.float32)[:, :width]
        weight *= 0.55
        cells *= 2
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low)


#: All scenes that a city has (`sources.simulate.city`), 6 MB each.
@lru_cache(maxsize=32)
def scene(seed: int) -> Scene:
    """The fixed scene of a camera."""
    rng = np.random.default_rng(seed)
    albedo = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    layer = np.zeros((HEIGHT, WIDTH), np.uint8)
    window = np.zeros((HEIGHT, WIDTH), np.uint8)
    lamp = np.zeros((HEIGHT, WIDTH, 1), np.float32)
    _hills(rng, albedo, layer, 1, 30.0, (0.10, 0.15, 0.11))
    _hills(rng, albedo, layer, 2, 15.0, (0.09, 0.14, 0.07))
    _buildings(rng, albedo, layer, window, 3, (5, 14), (5, 34), 1.0, 3)
    _buildings(rng, albedo, layer, window, 4, (14, 36), (14, 66), 0.8, 5)
    distance = _ground(rng, albedo, layer, lamp)
    _buildings(rng, albedo, layer, window, 5, (34, 70), (26, 96), 0.55, 8)
    _buildings(rng, albedo, layer, window, 6, (80, 120), (70, 150), 0.7, 14)
    _trees(rng, albedo, layer)
    top = int(np.flatnonzero((layer == 0).any(axis=1)).max()) + 1
    return Scene(
        albedo=albedo,
        layer=layer,
        distance=distance,
        sky=np.ascontiguousarray((layer[:top] == 0)[:, :, None]),
        window=window,
        lamp=lamp,
        cloud=_octaves(rng, top, 2 * WIDTH, 5),
        grain=rng.standard_normal((HEIGHT + 64, WIDTH + 64, 1), np.float32),
    )


def _hills(
    rng: np.random.Generator,
    albedo: Float32,
    layer: NDArray[np.uint8],
    number: int,
    height: float,
    colour: tuple[float, float, float],
) -> None:
    ridge = _octaves(rng, 1, WIDTH, 4)[0]
    tops = _HORIZON - 3 - height * ridge
    rows = np.arange(HEIGHT)[:, None]
    mask = (rows >= tops) & (rows < HEIGHT)
    shade = 0.75 + 0.5 * _octaves(rng, HEIGHT, WIDTH, 16)[:, :, None]
    albedo[mask] = (np.array(colour, np.float32) * shade)[mask]
    layer[mask] = number


def _buildings(
    rng: np.random.Generator,
    albedo: Float32,
    layer: NDArray[np.uint8],
    window: NDArray[np.uint8],
    number: int,
    widths: tuple[int, int],
    heights: tuple[int, int],
    density: float,
    pitch: int,
) -> None:
    """A row of buildings, standing deeper in the picture the nearer they are."""
    foot = _HORIZON + _FEET[number]
    left = int(-rng.integers(0, widths[0] + 1))
    while left < WIDTH:
        width = int(rng.integers(*widths))
        # What is close stands at the sides: nobody mounts a camera behind a wall.
        clear = number == 6 and 0.14 * WIDTH < left + width / 2 < 0.86 * WIDTH
        if rng.random() < density and not clear:
            top = foot - int(heights[0] + (heights[1] - heights[0]) * rng.random() ** 1.8) - 6
            wall = np.float32(0.10 + 0.32 * rng.random()) * (
                np.array([1.0, 0.95, 0.88], np.float32) + 0.08 * rng.standard_normal(3, np.float32)
            )
            right, edge = left + width, left + int(width * (0.55 + 0.3 * rng.random()))
            for start, stop, shade in ((left, edge, 1.0), (edge, right, 0.62)):
                area = (slice(max(0, top), foot), slice(max(0, start), max(0, min(WIDTH, stop))))
                albedo[area] = wall * np.float32(shade)
                layer[area] = number
                window[area] = 0
            size = max(1, pitch // 2)
            for row in range(top + pitch // 2 + 1, foot - size, pitch):
                for column in range(left + pitch // 2, right - size, pitch):
                    area = (
                        slice(max(0, row), row + size),
                        slice(max(0, column), max(0, min(WIDTH, column + size))),
                    )
                    albedo[area] = (0.05, 0.06, 0.08)
                    window[area] = rng.integers(1, 256)
        left += width


def _ground(rng: np.random.Generator, albedo: Float32, layer: NDArray[np.uint8], lamp: Float32) -> Float32:
    """Roofs, trees and a road, from the foot of the skyline to the camera; the distance of every layer."""
    first = _HORIZON + 8
    rows = np.arange(HEIGHT, dtype=np.float32)
    # A camera 35 m up with a lens that puts 1 km ten rows below the horizon.
    depth = np.clip(0.035 * 300.0 / np.maximum(rows - _HORIZON, 1.0), 0.03, 2.0)
    strips = np.geomspace(2.0, 0.03, _GROUND_STRIPS + 1)
    strip = np.clip(np.searchsorted(-strips, -depth, side="left") - 1, 0, _GROUND_STRIPS - 1)
    texture = _octaves(rng, HEIGHT, WIDTH, 10)[:, :, None]
    fine = rng.random((HEIGHT, WIDTH, 1), np.float32)
    green = np.array([0.07, 0.12, 0.045], np.float32)
    earth = np.array([0.13, 0.115, 0.085], np.float32)
    blend = np.clip((texture - 0.42) * 6.0, 0.0, 1.0)
    surface = (earth + (green - earth) * blend) * (0.6 + 0.5 * texture + 0.3 * fine)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[first:] = True
    free = mask & (layer != 3) & (layer != 4) | (mask & (rows[:, None] >= _HORIZON + 18))
    albedo[free] = surface[free]
    layer[free] = (len(_LAYERS) + strip)[:, None].repeat(WIDTH, axis=1)[free]
    _houses(rng, albedo)
    _road(rng, rows, first, albedo, lamp)
    return np.concatenate([np.array(_LAYERS), np.sqrt(strips[:-1] * strips[1:])]).astype(np.float32)


def _houses(rng: np.random.Generator, albedo: Float32) -> None:
    """Low houses all over the ground, far ones first: a wall and a roof each."""
    for below in np.sort(20.0 + 150.0 * rng.random(90) ** 1.6):
        width, height = 3 + 0.22 * below, 1 + 0.10 * below
        left, foot = int(WIDTH * rng.random()), int(_HORIZON + below)
        eaves, ridge = int(foot - height), int(foot - 1.7 * height)
        right = int(left + width * (0.7 + 0.8 * rng.random()))
        albedo[eaves:foot, left:right] = np.float32(0.14 + 0.26 * rng.random())
        roof = np.array([0.22, 0.10, 0.07], np.float32) if rng.random() < 0.6 else np.float32(0.10)
        albedo[ridge:eaves, left:right] = roof * np.float32(0.7 + 0.6 * rng.random())


def _road(rng: np.random.Generator, rows: Float32, first: int, albedo: Float32, lamp: Float32) -> None:
    aim, lean = WIDTH * (0.35 + 0.3 * rng.random()), 0.5 * rng.standard_normal()
    columns = np.arange(WIDTH, dtype=np.float32)[None, :]
    below = rows[first:, None] - _HORIZON
    centre, half = aim + lean * below, 0.27 * below
    road = np.abs(columns - centre) < half
    albedo[first:][road] = 0.09
    marking = (np.abs(columns - centre) < 0.012 * below) & ((np.log(below) * 9).astype(int) % 2 == 0)
    albedo[first:][marking] = 0.45
    for number in range(9):
        row = _HORIZON + 12 + 170.0 * (number / 9) ** 2.2
        for side in (-1.25, 1.25):
            x, reach = (
                aim + lean * (row - _HORIZON) + side * 0.27 * (row - _HORIZON),
                1.0 + 0.05 * (row - _HORIZON),
            )
            spot = (columns - x) ** 2 + (rows[:, None] - row + 3 * reach) ** 2
            lamp[:, :, 0] += np.exp(-spot / (0.6 * reach**2)) + 0.035 * np.exp(-spot / (30 * reach**2))


def _trees(rng: np.random.Generator, albedo: Float32, layer: NDArray[np.uint8]) -> None:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    leaf = rng.random((HEIGHT, WIDTH, 1), np.float32)
    for _ in range(26):
        below = 16.0 + 150.0 * rng.random() ** 1.5
        x, y, radius = WIDTH * rng.random(), _HORIZON + below, 2.0 + 0.11 * below
        crown = ((columns - x) / radius) ** 2 + ((rows - y + radius) / (0.9 * radius)) ** 2
        # In front of the buildings whose foot is higher up in the picture, behind the others.
        nearer = np.isin(layer, [number for number, foot in _FEET.items() if foot > below])
        mask = (crown < 0.75 + 0.35 * leaf[:, :, 0]) & ~nearer
        light = np.clip(1.1 - 0.6 * (rows - y + 2 * radius) / (2 * radius), 0.4, 1.1)[:, :, None]
        albedo[mask] = (np.array([0.05, 0.10, 0.03], np.float32) * light * (0.6 + 0.8 * leaf))[mask]
        layer[mask] = layer[min(HEIGHT - 1, int(y)), min(WIDTH - 1, int(x))] or 5


def _srgb_table() -> NDArray[np.uint8]:
    linear = np.arange(4096) / 4095.0
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


_SRGB: Final = _srgb_table()


def _colour(*rgb: float) -> Float32:
    return np.array(rgb, np.float32)


def _mix(a: Float32, b: Float32, weight: float) -> Float32:
    return (a * np.float32(1.0 - weight) + b * np.float32(weight)).astype(np.float32)


def _ramp(x: float, low: float, high: float) -> float:
    part = min(1.0, max(0.0, (x - low) / (high - low)))
    return part * part * (3.0 - 2.0 * part)


def picture(
    fixed: Scene,
    *,
    pm25: float,
    humidity: float,
    elevation: float,
    hour: float,
    cover: float,
    drift: float,
    grain: int,
) -> NDArray[np.uint8]:
    """The scene at one moment, uint8 (HEIGHT, WIDTH, 3).

    `elevation`: of the sun, degrees. `hour`: local solar time, for the windows that are lit. `cover`: share
    of the sky under clouds, 0 to 1. `drift`: how far the clouds have moved, in pictures. `grain`: any
    integer; chooses the camera's noise.
    """
    beta = extinction(pm25, humidity)
    transmission = np.exp(-fixed.distance[:, None] * beta)  # (layers, 3)
    haze = 1.0 - math.exp(-5.0 * float(beta[1]))
    day, low_sun = _ramp(elevation, -7.0, 8.0), 1.0 - _ramp(elevation, 0.0, 16.0)
    clouded = 0.35 + 0.65 * (1.0 - cover)

    sun = _mix(_colour(1.0, 0.97, 0.92), _colour(1.0, 0.62, 0.34), low_sun)
    light = day * (0.95 * clouded * _ramp(elevation, -1.0, 25.0) * sun + 0.75 * _colour(0.86, 0.93, 1.0))
    horizon = _mix(_colour(0.66, 0.76, 0.86), _colour(0.68, 0.66, 0.61), haze)
    horizon = day * _mix(horizon, _colour(0.80, 0.56, 0.38), 0.7 * low_sun * (1.0 - 0.5 * cover))
    # The glow of a city at night, brighter where haze throws it back.
    horizon = horizon + (1.0 - day) * (0.006 + 0.02 * haze) * _colour(1.0, 0.72, 0.45)
    zenith = _mix(_colour(0.13, 0.28, 0.58), _colour(0.46, 0.50, 0.53), 0.85 * haze)
    zenith = day * zenith * np.float32(0.55 + 0.45 * (1 - low_sun)) + (1.0 - day) * _colour(
        0.0015, 0.002, 0.004
    )

    gain = (light * transmission).astype(np.float32)
    air_light = (horizon * (1.0 - transmission)).astype(np.float32)
    # take() with mode="clip" is three times as fast as indexing, and most of this function's time.
    linear = np.take(gain, fixed.layer, axis=0, mode="clip")
    linear *= fixed.albedo
    linear += np.take(air_light, fixed.layer, axis=0, mode="clip")

    top = fixed.sky.shape[0]
    rows = (np.arange(top, dtype=np.float32) / _HORIZON)[:, None]
    near_horizon = rows ** np.float32(3.2 - 2.4 * haze)
    sky = zenith + (horizon - zenith) * near_horizon  # (rows, 3)
    start = int(drift * WIDTH) % WIDTH
    field = fixed.cloud[:, start : start + WIDTH]
    edge = 1.02 - 0.8 * cover
    clouds = (
        np.clip((field - edge) * 5.0 + 0.5, 0.0, 1.0)
        * (1.0 - 0.9 * haze * rows**2)
        * np.float32(min(1.0, 3 * cover))
    )
    cloud_light = day * _mix(_colour(0.92, 0.92, 0.93), _colour(0.95, 0.62, 0.45), low_sun)
    cloud_light = cloud_light * np.float32(1.0 - 0.35 * cover) + (1.0 - day) * 0.01
    above = sky[:, None, :] + clouds[:, :, None] * (cloud_light - sky[:, None, :])
    np.copyto(linear[:top], above, where=fixed.sky)

    if day < 0.7:
        dark = np.float32(1.0 - day / 0.7)
        share = (
            0.55 if 17.0 <= hour < 22.5 else 0.25 if hour >= 22.5 or hour < 1.0 or 5.0 <= hour < 8.0 else 0.06
        )
        lit = (fixed.window > 0) & (fixed.window < 255 * share)
        warm = _colour(0.75, 0.52, 0.26) * (0.5 + (fixed.window[lit] % 7)[:, None] / 7.0)
        linear[lit] += dark * warm * transmission.astype(np.float32)[fixed.layer[lit]]
        linear += dark * fixed.lamp * _colour(1.0, 0.70, 0.36)

    down, across = grain % 64, (grain // 64) % 64
    sigma = np.float32(0.004 * day + 0.0007 * (1.0 - day))
    linear += sigma * fixed.grain[down : down + HEIGHT, across : across + WIDTH]
    exposure = np.float32(1.05 if day > 0.5 else 1.05 + 1.2 * (1.0 - day))
    linear *= np.float32(exposure * 4095.0)
    np.clip(linear, 0.0, 4095.0, out=linear)
    return np.take(_SRGB, linear.astype(np.uint16), mode="clip")


def render(city: City, station: SimulatedStation, time_ms: int) -> bytes:
    """The JPEG (640 x 360) that a station's camera takes at a time."""
    truth = air(city, station, time_ms)
    clouds = key(city.seed, "clouds")
    pixels = picture(
        scene(station.scene),
        pm25=truth["pm25"],
        humidity=truth["relativehumidity"],
        elevation=sun_over(city, time_ms),
        hour=solar_hour(from_ms(time_ms), city.place.longitude),
        cover=min(1.0, max(0.0, 0.35 + 0.3 * smooth(clouds, time_ms / HOUR_MS / 5.0))),
        drift=time_ms / HOUR_MS * 0.8,
        grain=int(uniform(key(station.key, "grain"), time_ms) * (1 << 31)),
    )
    if station.turn:
        pixels = np.roll(pixels[:, ::-1] if station.turn < 0 else pixels, station.turn, axis=1)
    output = io.BytesIO()
    Image.fromarray(pixels).save(output, "JPEG", quality=_QUALITY)
    return output.getvalue()
