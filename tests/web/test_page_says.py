"""What the page says at hours that are not the usual ones: in a browser, each in a second or so."""

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.alert import Alert
from schemas.base import from_ms
from schemas.station import Camera, Station
from tests.samples import estimate, imputed, index
from tests.web.serving import served
from tests.web.test_page import browser, now_s, page_of, shows, stations, window

__all__ = ["browser"]
pytestmark = pytest.mark.browser


def test_before_there_are_data_it_does_not_say_that_all_is_well(browser: Any, tmp_path: Any) -> None:
    with served(tmp_path, [], stations(2)) as made, page_of(browser, made, "/") as page:
        shows(page, ".hints", "There are no data yet")
        shows(page, ".sums", "2 stations")
        shows(page, ".sums", "2 of which nothing has come yet")
        assert "values" not in page.text_content(".sums"), "none of nothing is no news"
        assert page.locator(".stations li", has_text="nothing yet").count() == 2
        # The past comes in: it is no fault of the stations' that it is of a while ago.
        made.parts.follower.moved_at = now_s() + 3600
        made.show([window("a", now_s() - 7200, 50)])
        shows(page, ".hints", "Data are coming in; the newest so far are of")
        text = page.text_content("main") + page.text_content("#notice")
        assert "othing new" not in text, text
        assert "Nothing stands out" not in text
        made.show([window("a", now_s(), 50)])
        shows(page, ".hints", "Nothing stands out")


def alerts(count: int) -> Iterator[Alert]:
    for n in range(count):
        at = from_ms(1000 * (now_s() - 3600 + 60 * n))
        yield Alert(
            id=f"a/rule{n}/{at:%Y-%m-%dT%H:%M:%SZ}", sequence=0, event="open", station="a", rule=f"rule{n}",
            severity="minor", at=at, since=at, reason=f"reason {n}",
        )  # fmt: skip


def test_no_alert_is_missing_on_the_first_screen_nor_on_a_wall(browser: Any, tmp_path: Any) -> None:
    alone = Station(station="z", cameras=(Camera(camera="main"),))
    lone = estimate("z", now_s(), 1, {"pm25": imputed(9.0, 2.0, 20.0, refused={"x": "stuck"})}, (index(40),))
    camera = lone.model_copy(update={"sides": "image"})
    with served(tmp_path, [window("a", now_s(), 50), camera], [*stations(1), alone]) as made:
        for one in alerts(5):
            made.tell(one)
        with page_of(browser, made, "/") as page:
            shows(page, ".hints", "reason 4")  # the newest of them
            shows(page, ".hints .more", "and 2 more")
            assert page.locator(".hints li:not(.more)").count() == 5
        wall = {"viewport": {"width": 1920, "height": 1080}}
        with page_of(browser, made, "/?kiosk=1", **wall) as page:
            shows(page, ".hints", "Camera alone")
            assert page.locator(".hints li:visible").count() == 6


def test_what_was_mistyped_or_is_refused_is_no_error_of_the_page(browser: Any, tmp_path: Any) -> None:
    """`page_of` fails where the console has an error: a refusal that could be known is one."""
    camera = Station(station="b", cameras=(Camera(camera="main"),))
    silent = Station(station="c", cameras=(Camera(camera="main"),))
    with served(tmp_path, [window("b", now_s() - 60 * n, 50) for n in range(3)], [camera, silent]) as made:
        with page_of(browser, made, "/stations/b?what=bogus&range=999y") as page:
            page.locator(".chart canvas").wait_for()
            assert page.url.endswith("?what=index&range=6h")
            shows(page, ".card", "Pictures take a key with the scope frames")
        with page_of(browser, made, "/stations/c?range=constructor") as page:
            shows(page, ".why", "Nothing has come of it yet")
            made.show([window("c", now_s(), 40)])
            shows(page, ".why", "PM10 was not measured")
        with page_of(browser, made, "/stations/nope") as page:
            shows(page, "main", "Nobody knows this station")
            assert page.locator("textarea, iframe, .card").count() == 0
            made.show([window("nope", now_s(), 40)])
            shows(page, ".why", "PM10 was not measured")


def test_on_a_telephone_no_column_of_a_table_is_out_of_sight(browser: Any, tmp_path: Any) -> None:
    liar = estimate(
        "a", now_s(), 1, {"pm25": imputed(9.0, 2.0, 20.0, refused={"x": "stuck for an hour"})}, (index(40),)
    )
    with served(tmp_path, [liar], stations(2), anonymous=("read", "admin")) as made:
        for path in ("/quality", "/manage"):
            with page_of(browser, made, path, viewport={"width": 390, "height": 844}) as page:
                page.locator(".as-cards tbody tr").first.wait_for()
                box = page.locator(".scroll").first
                assert box.evaluate("one => one.scrollWidth - one.clientWidth") <= 0, path
                cells = page.locator(".as-cards td:visible").evaluate_all(
                    "all => all.map(one => [one.dataset.label, one.getBoundingClientRect().right])"
                )
                assert all(label and right <= 390 for label, right in cells), cells
        with page_of(browser, made, "/quality", viewport={"width": 390, "height": 844}) as page:
            shows(page, ".as-cards td:visible", "stuck for an hour")
