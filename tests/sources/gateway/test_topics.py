"""Templates of MQTT topics: what is subscribed to, and what a topic is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.gateway.errors import TemplateError
from sources.gateway.topics import DEFAULT_TEMPLATES, Match, TopicMap, TopicTemplate, is_online


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("skyfuse/roof/readings", Match("skyfuse-json", "roof", "main")),
        ("skyfuse/roof/ingest/purpleair", Match("purpleair", "roof", "main")),
        ("skyfuse/roof/ingest/nobody", None),
        ("skyfuse/roof/frames/south", Match("frame", "roof", "south")),
        ("skyfuse/roof/status", Match("status", "roof", "main")),
        ("skyfuse//readings", None),
        ("airgradient/readings/84fce602549c", Match("airgradient", None, "main")),
        ("tele/garden/SENSOR", Match("tasmota", "garden", "main")),
        ("tele/garden/LWT", Match("status", "garden", "main")),
        ("tele/garden/deep/SENSOR", None),
        ("v3/app@ttn/devices/eui-1/up", Match("the-things-stack", None, "main")),
        ("application/7/device/0102/event/up", Match("chirpstack", None, "main")),
        ("other", None),
    ],
)
def test_what_a_topic_is(topic: str, expected: Match | None) -> None:
    assert TopicMap(None).match(topic) == expected


def test_what_is_shared_is_subscribed_to_once_and_births_by_everybody() -> None:
    shared = TopicMap(None).subscriptions("g")
    assert "$share/g/tele/+/SENSOR" in shared
    assert "tele/+/LWT" in shared
    assert "skyfuse/+/status" in shared
    assert len(shared) == len(DEFAULT_TEMPLATES)
    assert "tele/+/SENSOR" in TopicMap(None).subscriptions("")


levels = st.text("ab{}#+", min_size=0, max_size=2) | st.sampled_from(["+", "#", "{station}", "a.b"])
plain = st.text("ab.", min_size=1, max_size=2)


@given(st.lists(levels, min_size=1, max_size=4), st.lists(plain, min_size=1, max_size=4))
def test_a_template_reads_what_its_filter_gets_and_nothing_else(
    template: list[str], topic: list[str]
) -> None:
    try:
        parsed = TopicTemplate.parse("/".join(template) + " tasmota")
    except TemplateError:
        return
    wanted = parsed.filter.split("/")

    def gets(wanted: list[str], levels: list[str]) -> bool:
        """The rule of MQTT, 4.7.1."""
        if not wanted:
            return not levels
        if wanted[0] == "#":
            return True
        return bool(levels) and wanted[0] in ("+", levels[0]) and gets(wanted[1:], levels[1:])

    assert (parsed.pattern.fullmatch("/".join(topic)) is not None) == gets(wanted, topic)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a/{station}", "names the adapter"),
        ("a/{adapter} tasmota", "names the adapter"),
        ("a/b nobody", "no adapter 'nobody'"),
        ("a/b status", "whose status"),
        ("a/+/frames frame", "whose frame"),
        ("a/#/b tasmota", "last level"),
        ("a/x{station}/b tasmota", "stand alone"),
        ("a/{place}/b tasmota", "stand alone"),
        ("{station}/{station} tasmota", "twice"),
    ],
)
def test_a_wrong_template_is_told(text: str, words: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(words)):
        TopicMap([text])


@pytest.mark.parametrize(
    ("payload", "online"),
    [
        (b"Online", True), (b"Offline", False), (b"online\n", True), (b"0", False), (b'"lost"', False),
        (b'{"state": "online", "ip": "10.0.0.3"}', True), (b'{"online": false}', False),
        (b"", None), (b"\xff\x00", None), (b"maybe", None), (b'{"fps": 1}', None),
    ],
)  # fmt: skip
def test_births_and_last_wills(payload: bytes, online: bool | None) -> None:
    assert is_online(payload) is online


def test_of_templates_that_both_fit_the_first_counts() -> None:
    found = TopicMap(["a/{station}/x tasmota", "a/+/x airgradient"]).match("a/roof/x")
    assert found is not None
    assert (found.kind, found.station) == ("tasmota", "roof")
    other = TopicMap(["a/+/x airgradient", "a/{station}/x tasmota"]).match("a/roof/x")
    assert other is not None
    assert (other.kind, other.station) == ("airgradient", None)
