"""How well the quality gate tells failing frames from hazy ones, and what that is worth to the virtual
sensor.

Clean frames are daylight frames of india-nepal (polluted ones above all), milan-webcam and trafficcams.
Each is spoilt in every way below; a spoilt frame that is refused (by the decoder or the gate) is found,
a clean one that is refused is a false alarm. Fog and rain are listed apart: they are weather, not a
failure, and fog cannot be told from haze in one frame. The baseline is the usual plain gate: mean
brightness under 50, or variance of the Laplacian under 100.

The second table: the virtual sensor has learned from clean frames of milan-webcam; then, while the sensor is
silent, a growing share of the frames is spoilt, and either the gate keeps them out or it does not.
"""

import argparse
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from camera.errors import ImageRefused
from camera.gate import judge
from camera.image import DecodedFrame, decode
from camera.sight import Sight, camera_vector, layout
from model.bundle.bundle import Bundle
from model.bundle.runtime import Encoder
from model.evaluation.histories import read_milan
from model.evaluation.online import LEARNING_DAYS, PlayedRun, score
from model.evaluation.played_hours import Hour

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--every", "40", "--days", "12")
#: What it needs beside a checkout, as markers of tests.
NEEDS: Final = ("realdata",)

HOUR_MS = 3_600_000
Picture = NDArray[np.uint8]
Spoil = Callable[[Picture, np.random.Generator], bytes]


def jpeg(picture: Picture | Image.Image, quality: int = 85) -> bytes:
    """A JPEG file's bytes."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def night(picture: Picture, random: np.random.Generator) -> bytes:
    """Skylight gone, a few lamps, noise of a high gain."""
    dark = picture * random.uniform(0.08, 0.25) + random.normal(0, 6, picture.shape)
    image = Image.fromarray(np.clip(dark, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(3, 12))):
        x, y = random.uniform(0, image.width), random.uniform(0.4, 0.95) * image.height
        radius = random.uniform(0.004, 0.012) * image.width
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 230, 170))
    return jpeg(image)


def blur(picture: Picture, random: np.random.Generator) -> bytes:
    """Out of focus by 1/150 to 1/40 of the width."""
    image = Image.fromarray(picture)
    return jpeg(image.filter(ImageFilter.GaussianBlur(image.width * random.uniform(1 / 150, 1 / 40))))


def damage(picture: Picture, random: np.random.Generator) -> bytes:
    """Data lost or altered on the way: cut short with an end marker, a run dropped, or ten bytes changed."""
    data = jpeg(picture)
    start = data.index(b"\xff\xda") + 14
    at = int(random.integers(start, start + 3 * (len(data) - start) // 4))
    kind = random.integers(3)
    if kind == 0:
        return data[:at] + b"\xff\xd9"
    if kind == 1:
        return data[:at] + data[at + 300 :]
    changed = bytearray(data)
    for place in random.integers(start, len(data) - 2, 10):
        if changed[place] != 0xFF and changed[place - 1] != 0xFF:
            changed[place] = int(random.integers(255))
    return bytes(changed)


def cover(picture: Picture, random: np.random.Generator) -> bytes:
    """A hand, a bag or a leaf on the lens: one colour, a little uneven."""
    shade = random.uniform(20, 220, 3) + random.normal(0, 1.5, picture.shape)
    return jpeg(np.clip(shade, 0, 255).astype(np.uint8))


def grey(picture: Picture, _: np.random.Generator) -> bytes:
    """Infrared mode."""
    return jpeg(Image.fromarray(picture).convert("L"))


def card(picture: Picture, random: np.random.Generator) -> bytes:
    """A placeholder with lettering."""
    image = Image.new(
        "RGB", (picture.shape[1], picture.shape[0]), tuple(int(v) for v in random.integers(0, 200, 3))
    )
    size = max(image.width // 12, 12)
    ImageDraw.Draw(image).multiline_text(
        (image.width // 10, image.height // 3), "CAMERA\nOFFLINE", fill=(255, 255, 255), font_size=size
    )
    return jpeg(image)


def rows_lost(picture: Picture, random: np.random.Generator) -> bytes:
    """An encoder that repeats its last good row."""
    broken = picture.copy()
    at = int(len(picture) * random.uniform(0.3, 0.75))
    broken[at:] = broken[at]
    return jpeg(broken)


def broken_off(picture: Picture, random: np.random.Generator) -> bytes:
    """A key frame of which only the first 10 to 90 % arrived, saved with what the decoder's buffer held."""
    broken = picture.copy()
    colours = ((128, 128, 128), (0, 135, 0), (0, 0, 0), (255, 255, 255), (30, 60, 200))
    broken[int(len(picture) * random.uniform(0.1, 0.9)) :] = colours[int(random.integers(len(colours)))]
    return jpeg(broken)


def fog(picture: Picture, random: np.random.Generator) -> bytes:
    """Transmission 0.1 to 0.4 at the top of the ground, clearer towards the camera."""
    depth = np.linspace(1.0, 0.25, len(picture))[:, None, None]
    through = random.uniform(0.1, 0.4) ** depth
    return jpeg(np.clip(picture * through + 205 * (1 - through), 0, 255).astype(np.uint8))


def rain(picture: Picture, random: np.random.Generator) -> bytes:
    """Streaks, dim light, and drops on the glass that smear what is behind them."""
    image = Image.fromarray((picture * random.uniform(0.6, 0.85)).astype(np.uint8))
    smeared = image.filter(ImageFilter.GaussianBlur(image.width / 40))
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    for _ in range(int(random.integers(10, 40))):
        x, y = random.uniform(0, image.width), random.uniform(0, image.height)
        radius = random.uniform(0.01, 0.04) * image.width
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    image.paste(smeared, (0, 0), mask)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(int(random.integers(200, 600))):
        x, y = random.uniform(0, image.width), random.uniform(0, image.height)
        draw.line((x, y, x + 2, y + image.height * random.uniform(0.02, 0.06)), fill=(220, 220, 225, 90))
    return jpeg(image)


FAILURES: dict[str, Spoil] = {
    "night": night,
    "blur": blur,
    "JPEG damage": damage,
    "rows lost": rows_lost,
    "broken off": broken_off,
    "covered lens": cover,
    "greyscale": grey,
    "card": card,
}
WEATHER: dict[str, Spoil] = {"rain": rain, "fog": fog}


def plainly_refused(frame: DecodedFrame) -> bool:
    """The usual gate: brightness and variance of the Laplacian."""
    plane = frame.luminance.astype(np.float32)
    laplacian = (
        4 * plane[1:-1, 1:-1] - plane[:-2, 1:-1] - plane[2:, 1:-1] - plane[1:-1, :-2] - plane[1:-1, 2:]
    )
    return bool(plane.mean() < 50.0 or laplacian.var() < 100.0)


def clean_frames(data: Path) -> dict[str, list[Path]]:
    """Daylight frames by source."""
    cams = sorted((data / "trafficcams" / "sequences").glob("*.jpg"))
    return {
        "india-nepal": sorted((data / "india-nepal" / "images").glob("*.jpg"))[::25],
        "milan-webcam": sorted((data / "milan-webcam" / "frames").glob("*-1[0-5]00.jpg")),
        # London's clock stamps in the names are UTC; before 05:00 it is night there in May.
        "trafficcams": [
            p for p in cams if not any(hour in p.name for hour in ("-00", "-01", "_02")) or "-13" in p.name
        ],
    }


def tell_apart(data: Path, every: int) -> tuple[float, float]:
    """Print precision and recall; return balanced accuracy over the failures, (ours, the plain gate's)."""
    random = np.random.default_rng(3)
    refused: dict[str, Counter[str]] = defaultdict(Counter)
    total: Counter[str] = Counter()
    sources = clean_frames(data)

    def look(kind: str, content: bytes) -> None:
        total[kind] += 1
        try:
            frame = decode(content, 224, 224)
        except ImageRefused as error:
            refused[kind].update(("gate", error.code))
            # The plain gate comes with a plain decoder, which would have painted over the damage.
            return
        verdict = judge(frame, 0)
        refused[kind].update((*(("gate",) if verdict.reasons else ()), *verdict.reasons))
        refused[kind]["plain"] += plainly_refused(frame)

    for name, paths in sources.items():
        for path in paths[::every]:
            content = path.read_bytes()
            look(f"clean {name}", content)
            picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            for kind, spoil in (*FAILURES.items(), *WEATHER.items()):
                look(kind, spoil(picture, random))
    clean = [f"clean {name}" for name in sources]
    false = {
        who: sum(refused[kind][who] for kind in clean) / sum(total[kind] for kind in clean)
        for who in ("gate", "plain")
    }
    print("| frames | number | refused | precision | plain gate refuses | reasons |")
    print("|---|---|---|---|---|---|")
    for kind in (*clean, *FAILURES, *WEATHER):
        share = refused[kind]["gate"] / total[kind]
        precision = share / (share + false["gate"]) if kind in FAILURES else None
        why = (
            ", ".join(f"{n} {r}" for r, n in refused[kind].most_common() if r not in ("gate", "plain")) or "–"
        )
        print(
            f"| {kind} | {total[kind]} | {share:.1%} | {'–' if precision is None else f'{precision:.1%}'} "
            f"| {refused[kind]['plain'] / total[kind]:.1%} | {why} |"
        )
    recall = {
        who: float(np.mean([refused[kind][who] / total[kind] for kind in FAILURES]))
        for who in ("gate", "plain")
    }
    print(
        f"\nfalse alarms {false['gate']:.2%} (plain gate {false['plain']:.2%}); mean recall of failures "
        f"{recall['gate']:.1%} (plain gate {recall['plain']:.1%})"
    )
    return (recall["gate"] + 1 - false["gate"]) / 2, (recall["plain"] + 1 - false["plain"]) / 2


def degrade(data: Path, most_days: int | None) -> dict[str, dict[str, float]]:
    """Print and return next-day RMSE by share of spoilt frames, with and without the gate."""
    station = read_milan(data / "milan-webcam")
    bundle = Bundle.load()
    encoder, band, random = Encoder(bundle), station.far_band, np.random.default_rng(4)
    measured = station.readings["pm25"]
    kinds = [
        *(FAILURES[name] for name in ("night", "blur", "rows lost", "covered lens", "greyscale", "card")),
        rain,
    ]

    def sight(frame: DecodedFrame) -> Sight:
        assert frame.far is not None
        return Sight(layout(band), camera_vector(frame.far, encoder.encode([frame.far])[0].projection))

    good: dict[int, Sight] = {}
    spoilt: dict[int, tuple[Sight, bool]] = {}
    last = None if most_days is None else station.frames[0][0] + most_days * 24 * HOUR_MS
    for at, path in station.frames:
        if last is not None and at > last:
            break
        end = at // HOUR_MS * HOUR_MS + HOUR_MS
        content = path.read_bytes()
        frame = decode(content, 224, 224, band)
        if not judge(frame, at, station.position).usable:
            continue
        good[end] = sight(frame)
        picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        broken = decode(kinds[int(random.integers(len(kinds)))](picture, random), 224, 224, band)
        spoilt[end] = (sight(broken), judge(broken, at, station.position).usable)
    begin = min(good) - 60 * 24 * HOUR_MS
    ends = sorted({end for end in measured if end >= begin} | good.keys())
    days = sorted({end // (24 * HOUR_MS) for end in good if end in measured})
    tested_days = set(days[LEARNING_DAYS:])
    draw = {end: float(random.uniform()) for end in sorted(good)}
    clean = [Hour(end, good.get(end), None, measured.get(end)) for end in ends]
    found: dict[str, dict[str, float]] = {}
    print("\nRMSE (ug/m3) and share of intervals that hold, next day\n")
    print("| spoilt frames | with the gate | without it |\n|---|---|---|")
    for share in (0.0, 0.1, 0.25, 0.5, 1.0):
        row = {}
        for gated in (True, False):
            during = []
            for hour in clean:
                if hour.sight is not None and draw[hour.end_ms] < share:
                    other, usable = spoilt[hour.end_ms]
                    hour = hour._replace(sight=other if usable or not gated else None)
                during.append(hour)
            tested = [
                hour
                for hour in during
                if hour.end_ms in good
                and hour.measured is not None
                and hour.end_ms // (24 * HOUR_MS) in tested_days
            ]
            outcomes, _ = score(PlayedRun(clean, tested, during), station.zone, ())
            row["gate" if gated else "none"] = round(outcomes[0].skills["virtual sensor"].rmse, 2)
            row["gate holds" if gated else "none holds"] = round(outcomes[0].coverage, 3)
        found[f"{share:.0%}"] = row
        print(
            f"| {share:.0%} | {row['gate']:.2f}, {row['gate holds']:.0%} "
            f"| {row['none']:.2f}, {row['none holds']:.0%} |"
        )
    return found


def main(argv: list[str] | None = None) -> int:
    """Print both tables and end with one JSON line."""
    parser = argparse.ArgumentParser(prog="skyfuse bench gate", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder with the three data sets"
    )
    parser.add_argument("--every", type=int, default=1, help="only each so-manieth of the clean frames")
    parser.add_argument("--days", type=int, help="only so many of the camera's days; all otherwise")
    options = parser.parse_args(argv)
    if not options.data.is_dir():
        parser.error(f"{options.data} is not there; give --data")
    ours, plain = tell_apart(options.data, options.every)
    curve = degrade(options.data, options.days)
    line = {
        "name": "gate",
        "value": round(ours, 4),
        "unit": "balanced accuracy",
        "baseline": round(plain, 4),
        "ratio": round(ours / plain, 4),
        "next_day_rmse": curve,
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
