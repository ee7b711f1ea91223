"""The page's files: what they weigh, whom they name, and that no language lacks a word."""

import json
import re
from itertools import pairwise
from pathlib import Path

import aqi.standards
from model.bundle.gradcam import RAMP
from schemas.parameters import POLLUTANTS
from tests.web.test_api import lightness
from web.composing import standard_shown
from web.pages import FILES, file

STANDARDS = Path(aqi.standards.__file__).parent

#: Most that the page may weigh, packed, in bytes.
WEIGHT = 400_000


def test_no_view_weighs_more_than_it_may():
    every = [
        path
        for path in FILES.rglob("*")
        if path.is_file() and path.suffix in (".html", ".js", ".css", ".svg")
    ]
    weights = {str(path.relative_to(FILES)): _weight(path) for path in every}
    words = max(_weight(path) for path in (FILES / "words").glob("*.json"))
    whole = sum(weights.values()) + 2 * words + _weight(FILES / "vendor" / "countries.json")
    assert whole < WEIGHT, weights


def _weight(path: Path) -> int:
    packed = file(str(path.relative_to(FILES)))
    assert packed is not None, path
    return len(packed.gzipped or packed.body)


def test_every_language_has_the_words_and_their_places():
    english = json.loads((FILES / "words" / "en.json").read_text())
    for path in (FILES / "words").glob("*.json"):
        pairs = json.loads(path.read_text(), object_pairs_hook=list)
        words = dict(pairs)
        assert len(words) == len(pairs), f"a word stands twice in {path.name}"
        others = {key for key in words if not key.startswith(("category.", "advice."))}
        assert others == set(english), path.name
        for key in others:
            places, wanted = (sorted(re.findall(r"{(\w+)}", one[key])) for one in (words, english))
            assert places == wanted, (path.name, key)


def test_nothing_in_the_page_names_another_host():
    for path in FILES.rglob("*"):
        if path.suffix in (".js", ".css", ".html") and "vendor" not in path.parts:
            named = set(re.findall(r"https?://[^\s\"'`$]+", path.read_text()))
            assert named <= {"http://www.w3.org/2000/svg"}, path.name


def test_the_page_knows_every_pollutant_in_its_order():
    [labels] = re.findall(r"export const LABELS = {(.+?)}", (FILES / "words.js").read_text())
    assert tuple(re.findall(r"(\w+): ", labels)) == POLLUTANTS


def test_every_category_has_its_name_and_its_advice_in_every_language():
    standards = [one for path in STANDARDS.glob("*.toml") if (one := standard_shown(path.stem)) is not None]
    assert len(standards) > 5
    for path in (FILES / "words").glob("*.json"):
        words, language = json.loads(path.read_text()), path.stem
        for category in (category for one in standards for category in one.categories):
            key = re.sub("[^a-z]+", "_", category.name["en"].lower())  # as words.js makes it
            assert language in category.name or f"category.{key}" in words, (language, key)
            assert category.advice.get(language), (language, category.advice["en"])


def colours(css: str, names: list[str]) -> list[str]:
    return [re.search(rf"\.{name} {{ background: (#\w{{6}})", css)[1] for name in names]  # type: ignore[index]


def test_flags_and_heat_differ_in_lightness_too():
    """So they are told apart by eyes that see few colours, and on grey paper."""
    css = (FILES / "app.css").read_text()
    shades = sorted(lightness(one) for one in colours(css, ["flag1", "flag2", "flag3", "flag4"]))
    assert all((high + 0.05) / (low + 0.05) > 1.3 for low, high in pairwise(shades)), shades
    ramp = [lightness("#{:02x}{:02x}{:02x}".format(*one)) for one in RAMP]
    assert ramp == sorted(ramp)
    for colour in RAMP[2:]:  # the legend has them; the darkest begin to show through
        assert "rgb({} {} {})".format(*colour) in css
