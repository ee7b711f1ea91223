"""The page in a real browser: every view, what comes while it is open, what it says of what is away."""

import math
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.alert import Alert
from schemas.base import from_ms
from schemas.frame import FrameHeader
from schemas.station import Camera, Sensor, Station
from sinks.store import Store
from tests.busy import stretched
from tests.engines import until
from tests.harness import picture
from tests.samples import estimate, imputed, index, measured
from tests.web.serving import Served, served
from tests.web.test_api import FORECAST

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
VIEWS = ("/", "/stations/a?what=pm25", "/alerts", "/quality", "/pipeline", "/manage")


def now_s() -> int:
    return int(time.time()) // 60 * 60


def stations(count: int) -> list[Station]:
    return [
        Station(
            station=name, name=f"Place {name}", latitude=10 + 0.01 * (n % 33), longitude=5 + 0.01 * (n // 33),
            cameras=(Camera(camera="main"),) if n % 2 else (),
            sensors=(Sensor(sensor="x", parameters=("pm25",)),),
        )
        for n, name in enumerate(names(count))
    ]  # fmt: skip


def names(count: int) -> list[str]:
    return [chr(97 + n) if n < 26 else f"s{n}" for n in range(count)]


def window(station: str, end: int, points: int, revision: int = 1) -> Any:
    values = {"pm25": measured(points / 2), "pm10": imputed(40.0, 20.0, 90.0)}
    return estimate(station, end, revision, values, (index(points),))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    end = now_s()
    past = [
        window(name, end - 60 * n, 30 + 40 * which + n % 5)
        for which, name in enumerate(names(3))
        for n in range(60)
    ]
    with served(
        tmp_path_factory.mktemp("page"), past, stations(3), anonymous=("read", "frames", "write", "admin")
    ) as made:
        with Store(made.settings.store_path) as store:
            levels = tuple((float(value),) * 72 for value in (0, 1, 2, 3, 4, 5, 30))
            wide = FORECAST.pollutants["pm25"].model_copy(update={"quantiles": levels})
            update = {"issued_at": from_ms(1000 * end), "pollutants": {"pm25": wide}}
            store.write_forecasts([FORECAST.model_copy(update=update)])
        yield made


@contextmanager
def page_of(browser: Any, server: Served, path: str, **context: Any) -> Iterator[Any]:
    """An open page. At the end: it asked nobody but us, and nothing went wrong in it."""
    made = browser.new_context(**({"viewport": {"width": 1280, "height": 800}, "locale": "en-GB"} | context))
    wrong: list[str] = []
    made.set_default_timeout(120_000)
    page = made.new_page()
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda one: None if _ours(one.url, server.url) else wrong.append(f"asked {one.url}"))
    page.goto(server.url + path)
    page.wait_for_selector("main h1", state="attached", timeout=60_000)
    try:
        yield page
        assert wrong == []
    finally:
        made.close()


def shows(page: Any, selector: str, text: str, within_ms: int = 60_000) -> None:
    """Return when it does. (What waits for a condition in JavaScript would need the policy's leave.)"""
    page.locator(selector, has_text=text).first.wait_for(timeout=within_ms)


def _ours(url: str, server: str) -> bool:
    return url.startswith((server + "/", "blob:" + server, "data:"))


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}, "has_touch": True},
    ],
    ids=["light", "dark 390"],
)
@pytest.mark.parametrize("path", [*VIEWS, "/?kiosk=1", "/widget/a", "/?lang=hi"])
def test_every_view_shows_itself_and_everybody_can_use_it(browser, shown, path, context):
    from axe_playwright_python.sync_playwright import Axe

    with page_of(browser, shown, path, **context) as page:
        page.wait_for_load_state("networkidle") if "/widget/" in path else page.wait_for_timeout(300)
        beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert beyond <= 0, "it is wider than the screen"
        assert "did not work" not in page.text_content("h1"), page.text_content("main")
        found = Axe().run(page).response["violations"]
        serious = {
            one["id"]: [node["html"][:120] for node in one["nodes"]][:3]
            for one in found
            if one["impact"] in ("serious", "critical")
        }
        assert serious == {}


def test_the_next_three_days_are_shown_where_they_were_foretold(browser, shown):
    with page_of(browser, shown, "/stations/a?what=pm25") as page:
        shows(page, "section", "The next three days")
        page.locator("section", has_text="The next three days").locator("canvas").wait_for()
        shows(page, ".little", "of the last day was not measured")
        assert "little of the station's own data" in page.text_content(".little")
        shows(page, ".legend", "50 % interval")
        shows(page, "section", "The interval goes up to 30")  # its median is 3
        page.click("summary:has-text('As a table')")
        shows(page, "details td", "Good 75%")
        page.click("button:has-text('SO')")
        page.locator("h2", has_text="The next three days").wait_for(state="hidden")
    with page_of(browser, shown, "/stations/b?what=pm25") as page:
        shows(page, "section", "What this rests on")
        with page.expect_response("**/api/v1/forecast?*") as answer:
            page.reload()
        answer.value.finished()
        shows(page, "section", "What this rests on")
        page.evaluate("new Promise(requestAnimationFrame)")  # what became of the answer is drawn
        assert not page.locator("h2", has_text="The next three days").is_visible()


def test_a_station_is_let_in_changed_and_retired_and_a_note_is_written(browser, tmp_path):
    everything = ("read", "frames", "write", "admin")
    with served(tmp_path, [window("a", now_s(), 50)], stations(1), anonymous=everything) as made:
        with page_of(browser, made, "/manage") as page:
            shows(page, "li", "3 readings")
            page.click("li button:has-text('Let in')")
            page.locator("form:visible input").first.fill("New place")
            page.click("form:visible button:has-text('Let in')")
            shows(page, "[role=status]", "new is let in; 3 messages were published")
            shows(page, "td", "New place")
            page.click("[aria-label='Edit: a']")
            page.locator("form:visible input").first.fill("Other name")
            page.click("form:visible button:has-text('Save')")
            shows(page, "td", "Other name")
            assert made.json("/api/v1/stations/a")["properties"]["name"] == "Other name"
            page.click("[aria-label='Retire: new']")
            page.click("button:has-text('Sure?')")
            shows(page, "[role=status]", "new is retired")
            page.locator("td", has_text="New place").wait_for(state="detached")
        with page_of(browser, made, "/stations/a") as page:
            page.click("summary:has-text('Write one')")
            page.fill("#note-text", "barbecue next door")
            page.click("button:has-text('Put it there')")
            shows(page, "li", "barbecue next door")


ARRANGED = """async ([count, spread, radius]) => {
    const { arranged } = await import('/static/map.js');
    const places = [...Array(count)].map((_, n) => [500 + spread * Math.cos(n), 300 + spread * Math.sin(n)]);
    const found = arranged(places.map((at) => ({ at })), radius);
    return found.map(({ at, place, full }) => [...at, ...place, full]);
}"""


def test_no_mark_of_the_map_hides_the_number_of_another_and_a_wall_needs_no_scrolling(browser, shown):
    wall = {"viewport": {"width": 1920, "height": 1080}}
    with page_of(browser, shown, "/?kiosk=1", **wall) as page:
        page.wait_for_selector(".stations li:nth-child(3)")
        sides = "[document.documentElement.scrollHeight, document.querySelector('.map').clientHeight]"
        needed, map_height = page.evaluate(sides)
        assert needed <= 1080
        assert map_height > 500
        for count, spread in ((2, 0), (7, 0), (7, 20), (40, 60), (1000, 200)):
            found = page.evaluate(ARRANGED, [count, spread, 17])
            marks = [(x, y) for x, y, *_, full in found if full]
            nearest = min(math.dist(one, other) for n, one in enumerate(marks) for other in marks[:n])
            assert nearest > 2 * 17, (count, spread)
            assert found[0][4], "the worst has its number"
            if count < 10:
                assert len(marks) == count
                assert max(math.dist(one[:2], one[2:4]) for one in found) < 100
        apart = page.evaluate(ARRANGED, [2, 200, 17])
        assert [one[:2] for one in apart] == [one[2:4] for one in apart], "who has room stays"


def test_a_new_estimate_and_an_alert_are_in_the_open_page_within_two_seconds(browser, shown):
    with page_of(browser, shown, "/") as page:
        page.wait_for_selector(".stations li:nth-child(3)")
        until(lambda: shown.parts.counter.open > 0, "the page to listen")
        began = time.monotonic()
        shown.show([window("b", now_s() + 60, 277)])
        shows(page, ".stations", "277")
        took = time.monotonic() - began
        assert took < stretched(2.0)
        shows(page, ".stations li:first-child", "277")
        shown.tell(alert_of("b"))
        page.click("text=Alerts")
        shows(page, "main", "index is 277")
        assert page.url.endswith("/alerts")
        page.go_back()
        page.wait_for_selector(".stations li")


def test_an_old_alert_is_open_behind_many_that_closed_and_goes_where_it_closes(browser, tmp_path):
    end = now_s()

    def alert(n: int, event: Any, sequence: int = 0) -> Alert:
        at = from_ms(1000 * (end - 86400 + 60 * n))
        return Alert(
            id=f"a/us-aqi/{at:%Y-%m-%dT%H:%M:%SZ}", sequence=sequence, event=event, station="a",
            rule="us-aqi", severity="severe", at=at, since=at, reason=f"reason {n}",
        )  # fmt: skip

    hours = [window("a", end - 60 * n, 50) for n in (*range(60), *range(240, 300))]
    with served(tmp_path, hours[::-1], stations(1)) as made:
        for one in [alert(0, "open"), *(alert(n, "clear", 1) for n in range(1, 211))]:
            made.tell(one)
        with page_of(browser, made, "/alerts") as page:
            opened = page.locator("section", has_text="Open").first
            shows(page, "section:has(h2:text-is('Open'))", "reason 0")
            shows(page, "#top .count", "1")
            until(lambda: made.parts.counter.open > 0, "the page to listen")
            made.tell(alert(0, "clear", 1))
            opened.locator("li", has_text="No alert is open").wait_for()
            page.locator("#top .count").wait_for(state="detached")
        with page_of(browser, made, "/stations/a?what=pm25") as page:
            page.locator(".strip .nodata").wait_for()
            pieces = page.eval_on_selector_all(
                ".strip span", "all => all.map(one => [one.title, parseFloat(one.style.width)])"
            )
            assert [title for title, _ in pieces] == ["good", "no data", "good"]
            assert re.findall(r"(good|no data) (\d+)", page.text_content(".timeline .legend")) == [
                ("good", "40"), ("no data", "60"),
            ]  # fmt: skip
            assert [width for _, width in pieces] == pytest.approx([19.8, 60.2, 20.1], abs=0.3)


def test_what_comes_while_the_page_begins_to_listen_is_shown(browser, tmp_path):
    end = now_s()
    with served(tmp_path, [window("a", end, 50)], stations(1)) as made:
        context = browser.new_context(locale="en-GB")
        page = context.new_page()

        def late(route):
            made.show([window("a", end + 60, 277)])  # after `latest` was asked for, before there is a stream
            route.continue_()

        page.route("**/api/v1/stream", late)
        page.goto(made.url)
        shows(page, ".stations", "277")
        context.close()


def test_a_revision_that_is_older_is_not_shown(browser, shown):
    end = now_s() + 120
    with page_of(browser, shown, "/") as page:
        until(lambda: shown.parts.counter.open > 0, "the page to listen")
        shown.show([window("c", end, 66, revision=5), window("c", end, 44, revision=4), window("a", end, 33)])
        shows(page, ".stations", "33")
        assert "66" in page.text_content(".stations")
        assert "44" not in page.text_content(".stations")


def test_it_says_what_is_away_and_goes_on_without_being_loaded_anew(browser, tmp_path):
    end = now_s()
    with served(tmp_path, [window("a", end, 50)], stations(1)) as made:
        context = browser.new_context(locale="en-GB")
        page = context.new_page()
        page.goto(made.url)
        page.wait_for_selector(".stations li")
        until(lambda: made.parts.counter.open > 0, "the page to listen")
        page.evaluate("window.kept = true")
        made.parts.follower.away_since = time.time()
        shows(page, "#notice", "Kafka", 15_000)
        made.parts.follower.away_since = None
        page.wait_for_selector("#notice", state="hidden", timeout=60_000)
        made.stop()
        shows(page, "#notice", "has not answered since", 20_000)
        made.show([window("a", end + 60, 99)])  # it comes while the page cannot hear it
        made.start()
        shows(page, ".stations", "99", 30_000)
        page.wait_for_selector("#notice", state="hidden", timeout=60_000)
        assert page.evaluate("window.kept") is True
        context.close()


def test_what_a_station_sends_is_never_read_as_html(browser, tmp_path):
    evil = "<img src=x onerror=window.hit=1>"
    record = Station(station="a", name=evil, latitude=1.0, longitude=1.0)
    with served(tmp_path, [window("a", now_s(), 50)], [record]) as made:
        for path in ("/", "/stations/a", "/widget/a"):
            with page_of(browser, made, path) as page:
                shows(page, "main", evil)
                assert page.evaluate("window.hit") is None


LONG = "An_extraordinarily_long_name_without_any_place_to_break_" * 2


def test_a_long_name_fits_a_telephone_on_every_view_and_what_is_said_is_said_in_the_page_s_language(
    browser, tmp_path
):
    record = stations(2)[1].model_copy(update={"name": LONG[:100]})
    header = FrameHeader(id="f", source="/test", time=from_ms(1000 * now_s()), station="b", camera="main")
    everything = ("read", "frames", "write", "admin")
    with served(tmp_path, [window("b", now_s(), 120)], [record], anonymous=everything) as made:
        assert made.parts.pictures is not None
        made.parts.pictures.take(SimpleNamespace(headers=header.to_headers(), value=picture(1, 3)))
        made.tell(alert_of("b"))
        telephone = {"viewport": {"width": 390, "height": 844}}
        for path in (*VIEWS[:1], "/stations/b?what=pm25", *VIEWS[2:], "/widget/b"):
            with page_of(browser, made, path, **telephone) as page:
                shows(page, "main", LONG[:40] if path != "/pipeline" else "Kafka")
                sides = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
                needed, there = page.evaluate(sides)
                assert needed <= there, path
        with page_of(browser, made, "/stations/b?what=pm25&lang=de") as page:
            shows(page, ".why", "Das Fenster beruht auf")
            shows(page, ".why", "PM10 wurde nicht gemessen")
            assert page.locator(".head p[lang=de]").text_content().startswith("Herz- und Lungenkranke")
            page.click("figure button")
            shows(page, ".heatscale", "am hellsten sind")
            assert page.locator(".heatscale .ticks span").count() == 3
        with page_of(browser, made, "/?lang=es") as page:
            shows(page, ".hints", "alerta us-aqi")


def alert_of(station: str) -> Alert:
    at = from_ms(now_s() * 1000)
    return Alert(
        id=f"{station}/us-aqi/{at:%Y-%m-%dT%H:%M:%SZ}", sequence=0, event="open", station=station,
        rule="us-aqi", severity="severe", at=at, since=at, reason="us-epa-2024 index is 277",
    )  # fmt: skip


def test_a_key_is_asked_for_where_one_is_due(browser, tmp_path):
    with served(
        tmp_path, [window("b", now_s() - 60 * n, 50) for n in (1, 0)], stations(2), anonymous=()
    ) as made:
        key = made.key("read")
        until(lambda: made.get("/api/v1/health", X_Api_Key=key).status == 200, "the key")
        context = browser.new_context(locale="en-GB")
        page = context.new_page()
        page.goto(made.url)
        page.wait_for_selector("#key")
        page.fill("#key", key)
        page.press("#key", "Enter")
        page.wait_for_selector(".stations li", timeout=60_000)
        page.goto(made.url + "/stations/b?what=pm25")
        shows(page, "section", "Your key may not see pictures")
        shows(page, "section", "Reading takes a key here")
        assert page.locator("#embed").count() == 0
        with page.expect_download() as download:
            page.click("text=Download as CSV")
        assert download.value.suggested_filename.startswith("b-")
        assert download.value.path().read_text().startswith("station,")
        context.close()


#: What makes a page believe that it is an hour later than it is.
FAST_CLOCK = """
const Real = Date;
window.Date = class extends Real {
  constructor(...given) { given.length ? super(...given) : super(Real.now() + 3600000); }
  static now() { return Real.now() + 3600000; }
};
"""


def test_the_widget_fits_its_frame_goes_by_the_servers_clock_and_calls_nothing_old_valid(browser, tmp_path):
    record = stations(2)[1].model_copy(update={"name": "Place of a rather long name by the river"})
    past = [window("a", now_s(), 120), window("b", now_s() - 2 * 86400, 120)]
    with served(tmp_path, past, [stations(1)[0], record], anonymous=("read", "frames")) as made:
        with page_of(browser, made, "/stations/b") as page:
            shows(page, ".head .lead", "AQI 120 · was: Unhealthy for Sensitive Groups")
            shows(page, ".head", "nothing new since")
            assert "valid" not in page.text_content(".head .lead")
            frame = page.input_value("#embed")
        width, height = (int(frame.split(f'{name}="')[1].split('"')[0]) for name in ("width", "height"))
        context = browser.new_context(locale="de-DE", viewport={"width": width, "height": height})
        context.add_init_script(FAST_CLOCK)
        page = context.new_page()
        for name, said in (("b", "war: "), ("a", "vor ")):
            page.goto(f"{made.url}/widget/{name}")
            shows(page, "main", said)
            sides = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
            needed = page.evaluate(sides)
            assert needed[0] <= width, name
            assert needed[1] <= height, name
        assert "nichts Neues" not in page.text_content("main"), "it goes by the visitor's clock"
        page.goto(f"{made.url}/?lang=ne")
        shows(page, ".stations", "अघि")
        assert "देखि नयाँ छैन" in page.text_content(".stations .stale .age")
        assert re.match(r"\d{4}-\d\d-\d\d ", page.text_content(".stations .stale .age"))
        context.close()


def test_a_thousand_stations_cost_the_browser_less_than_half_a_core(browser, tmp_path):
    end = now_s()
    many = names(1000)
    with (
        served(
            tmp_path, [window(name, end, 20 + n % 250) for n, name in enumerate(many)], stations(1000)
        ) as made,
        page_of(browser, made, "/") as page,
    ):
        page.wait_for_selector(".stations li:nth-child(1000)", state="attached", timeout=60_000)
        devtools = page.context.new_cdp_session(page)
        # Of the processor: on a busy machine what the page has to do takes longer, and is no more.
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy() -> float:
            """Seconds that the page's process has had a core: not those that others kept it waiting."""
            found = devtools.send("Performance.getMetrics")["metrics"]
            return float(next(one["value"] for one in found if one["name"] == "ProcessTime"))

        until(lambda: made.parts.counter.open > 0, "the page to listen")
        before, began = busy(), time.monotonic()
        for turn in range(40):  # all of them, four times faster than once a minute
            some = many[turn % 4 :: 4][: 250 // 4 * 4]
            made.show(
                [
                    window(name, end + 60 * (turn // 4 + 1), 20 + (n + turn) % 250)
                    for n, name in enumerate(some)
                ]
            )
            page.wait_for_timeout(375)
        share = (busy() - before) / (time.monotonic() - began)
        assert share < 0.5
