"""The rules file: the documented default set, and mistakes named with their line."""

from importlib import resources

import pytest

from agents.rules_file import load
from alerting.errors import RulesError
from alerting.evidence import Evidence, weigh
from alerting.rules import default, parse
from aqi.flags import FLAT_LINE, SPIKE
from schemas.base import from_ms
from schemas.estimate import FrameUse, Inputs
from schemas.health import TROUBLES
from tests.samples import T0, estimate, imputed, index, measured

GOOD = """\
[links]
page = "/s/{station}"

[[rule]]
id = "one"
what = "concentration"
parameter = "pm25"
open_after = "5m"
steps = [
    { severity = "minor", enter = 75, leave = 60 },
    { severity = "severe", enter = 150, leave = 120 },
]

[[rule]]
id = "two"
what = "silence"
steps = [{ severity = "minor", enter = 10 }]
"""


def test_the_default_set_is_valid_and_covers_air_and_network():
    rules = default()
    assert {rule.what for rule in rules.rule} >= {
        "index",
        "concentration",
        "silence",
        "flagged",
        "frames",
        "imputed_share",
    }
    # What is said of a trouble holds until something else is said: it may need no dwell.
    assert all(rule.open_after or rule.what in ("silence", "trouble") for rule in rules.rule)
    assert {rule.trouble for rule in rules.of_fleet("a")} == set(TROUBLES)
    assert all(
        step.left_below < step.enter for rule in rules.rule if rule.what == "index" for step in rule.steps
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('what = "concentration"', 'what = "concentrate"', 6, "what: should be"),
        ('parameter = "pm25"', 'parameter = "pm2.5"', 7, "parameter: should be 'pm25', 'pm10'"),
        ('open_after = "5m"', "open_after = true", 8, 'open_after: a duration is written "60s"'),
        ("enter = 75, leave = 60", "enter = 75, leave = 80", 10, "leave = 80 is above enter = 75"),
        ("enter = 150", "enter = 70, note = 1", 11, "note: no such key here; there are severity, enter"),
        ("enter = 150, leave = 120", "enter = 70, leave = 65", 11, "`enter` has to rise"),
        ('"severe"', '"info"', 11, "severities have to rise"),
        ('id = "two"', 'id = "one"', 15, "'one' is taken"),
        ("enter = 10 }", "enter = 10, leave = 3 }", 17, "it has no `leave`"),
        ("enter = 10 }", "enter = 1.5 }", 17, "whole windows"),
        ('what = "silence"', 'what = "frames"', 14, "reasons: what = \"frames\" needs it"),
        ('what = "silence"', 'what = "silence"\nstandard = "us"', 17, "has no use for it"),
        ('what = "silence"', 'what = "index"\nstandard = "mars"', 17, "no standard 'mars'"),
        ('what = "silence"', 'what = "flagged"\ntests = ["flatline"]', 17, "'flatline' is not one of"),
        ('what = "silence"', 'what = "silence"\nstations = "milan"', 17, 'a list is written ["one", "two"]'),
        ('[links]', 'rules = 3\n[links]', 1, "rules: no such key here; there are links, rule"),
        ('what = "silence"\nsteps = [{ severity = "minor", enter = 10 }]',
         'what = "imputed_share"\nsteps = [{ severity = "minor", enter = 67 }]', 17, "between 0 and 1"),
        ('what = "silence"\nsteps = [{ severity = "minor", enter = 10 }]',
         'what = "flagged"\ntests = ["spike"]\nsteps = [{ severity = "minor", enter = 7 }]', 18, "0 and 6"),
        ('what = "silence"', 'what = "silence"\nmin_status = "valid"', 17, "min_status: what = "),
        ('what = "silence"\nsteps = [{ severity = "minor", enter = 10 }]',
         'what = "trouble"\ntrouble = "clock"\nsteps = [{ severity = "minor", enter = 0.5 }]', 18,
         "one step, with"),
        ('what = "silence"\nsteps = [{ severity = "minor", enter = 10 }]',
         'what = "trouble"\ntrouble = "late"\nsteps = [{ severity = "minor", enter = 1 }]', 17,
         "should be 'clock'"),
        ('what = "silence"\nsteps = [{ severity = "minor", enter = 10 }]',
         'what = "trouble"\ntrouble = "pull"\nmax_gap = "1h"\nsteps = [{ severity = "info", enter = 1 }]', 18,
         "max_gap: what ="),
        ('what = "silence"', 'what = "silence"\ntrouble = "clock"', 17, "has no use for it"),
        ('/s/{station}', '/s/{city}', 2, "only {station}"),
        ('id = "two"', 'identity = "two"', 15, "identity: no such key here; there are id, what,"),
        ('id = "two"', "id = two", 15, "not TOML"),
        ('id = "two"\n', "", 14, "id: is missing"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(old, new, line, words):
    assert parse(GOOD, "good.toml").rule[0].steps[1].enter == 150
    with pytest.raises(RulesError) as raised:
        parse(GOOD.replace(old, new, 1), "my.toml")
    text = str(raised.value)
    assert words in text
    # tomllib says the line in its own words.
    assert f"my.toml:{line}: " in text or (f"line {line}," in text and "not TOML" in text), text


def test_single_brackets_are_named():
    with pytest.raises(RulesError, match=r"my\.toml:1: rule: every rule begins with \[\[rule\]\]"):
        parse('[rule]\nid = "one"\nwhat = "silence"\n', "my.toml")


def test_all_mistakes_are_named_at_once():
    text = GOOD.replace('"5m"', '"5 minutes"').replace('"silence"', '"silent"')
    with pytest.raises(RulesError) as raised:
        parse(text, "my.toml")
    assert [line.split(": ")[0] for line in str(raised.value).splitlines()] == ["my.toml:8", "my.toml:16"]


@pytest.mark.parametrize("text", ["", "\n\n", "# all of it was here\n", '[links]\npage = "/s"\n'])
def test_a_file_without_a_rule_is_taken_for_a_save_cut_short(text):
    with pytest.raises(RulesError, match=r"my\.toml:1: file: there is no \[\[rule\]\] in it.*rule = \[\]"):
        parse(text, "my.toml")
    assert parse("rule = []", "my.toml").rule == ()


def test_a_digest_is_that_of_the_version_before_where_nobody_uses_a_key_of_this_one():
    silence = next(rule for rule in default().rule if rule.id == "silence")
    assert silence.digest == "f31437114fd78c5f"
    index = rule(US)
    assert index.digest == rule(US + '\nmin_status = "indicative"').digest
    assert index.digest != rule(US + '\nmin_status = "valid"').digest


def test_the_words_of_mostly_imputed_are_its_numbers():
    mostly = next(rule for rule in default().rule if rule.id == "mostly-imputed")
    (step,) = mostly.steps
    assert step.enter <= 2 / 3 < 4 / 6 + 1e-9
    assert step.enter > 3 / 6
    assert step.leave == 0.5
    text = (resources.files("alerting") / "default-rules.toml").read_text()
    assert "# Two thirds" in text


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RulesError, match=r"none\.toml cannot be read"):
        load(tmp_path / "none.toml")


def rule(text):
    return parse(f'[[rule]]\nid = "r"\n{text}\nsteps = [{{ severity = "minor", enter = 1 }}]', "r.toml").rule[
        0
    ]


PM25 = 'what = "concentration"\nparameter = "pm25"'
MEASURED = '\nrests_on = "measured"'
BOUND = '\nrests_on = "lower_bound"'
GUESS = estimate(pollutants={"pm25": imputed(40, 30, 50)})
US = 'what = "index"\nstandard = "us-epa-2024"'
CAST = 'what = "nowcast"\nstandard = "us-epa-2024"'


@pytest.mark.parametrize(
    ("text", "one", "wanted"),
    [
        (PM25, estimate(), Evidence(12, 12, 12)),
        (PM25, GUESS, Evidence(40, 40, 40)),
        (PM25 + MEASURED, GUESS, "pm25 was imputed"),
        (PM25 + BOUND, GUESS, Evidence(30, 40, 50)),
        (PM25 + BOUND, estimate(pollutants={"pm25": imputed(40, None, None)}),
         Evidence(float("-inf"), 40, float("inf"))),
        (PM25 + MEASURED, estimate(), Evidence(12, 12, 12)),
        (PM25, estimate(pollutants={}), "pm25 has no value"),
        (US, estimate(indices=(index(120),)), Evidence(120, 120, 120)),
        (US, estimate(indices=()), "us-epa-2024 is not computed for this station"),
        # An alias stands for the edition in force at the window's end.
        ('what = "index"\nstandard = "us-epa"', estimate(indices=(index(120),)), Evidence(120, 120, 120)),
        ('what = "index"\nstandard = "us-epa-2012"', estimate(indices=(index(120),)),
         "us-epa-2012 is not computed for this station"),
        (US, estimate(indices=(index(None, reason="only 3 of 24 h"),)),
         "us-epa-2024 gives no index: only 3 of 24 h"),
        # Too little history says nothing, unless a rule asks for it.
        (US, estimate(indices=(index(168, status="insufficient", reason="3 of 24 hours"),)),
         "us-epa-2024 is 168, but insufficient: 3 of 24 hours"),
        (US + '\nmin_status = "insufficient"', estimate(indices=(index(168, status="insufficient"),)),
         Evidence(168, 168, 168)),
        (US, estimate(indices=(index(168, status="indicative"),)), Evidence(168, 168, 168)),
        (US + '\nmin_status = "valid"', estimate(indices=(index(168, status="indicative", reason="why"),)),
         "us-epa-2024 is 168, but indicative: why"),
        (CAST, estimate(indices=(index(120, nowcast=90, status="insufficient"),)), Evidence(90, 90, 90)),
        (US + MEASURED, estimate(indices=(index(120, imputed_share=0.25),)),
         "the index rests on imputed values"),
        (US + BOUND, estimate(indices=(index(120, imputed_share=0.5, lo=104, hi=151),)),
         Evidence(104, 120, 151)),
        (US, estimate(indices=(index(120, imputed_share=0.5, lo=104, hi=151),)), Evidence(120, 120, 120)),
        (US + BOUND, estimate(indices=(index(120),)), Evidence(120, 120, 120)),
        # What was left out as incomplete is below the index, but might be above it.
        (US + BOUND, estimate(indices=(index(120, lo=120, hi=160),)), Evidence(120, 120, 160)),
        (US + MEASURED, estimate(indices=(index(120, lo=120, hi=160),)), Evidence(120, 120, 120)),
        # Written by something that gives no interval: nothing is known for sure.
        (US + BOUND, estimate(indices=(index(120, imputed_share=1.0),)),
         Evidence(float("-inf"), 120, float("inf"))),
        (CAST + BOUND,
         estimate(indices=(index(120, nowcast=90, nowcast_lo=70, nowcast_hi=101, imputed_share=1.0),)),
         Evidence(70, 90, 101)),
        (CAST + MEASURED, estimate(indices=(index(120, nowcast=90, nowcast_lo=70, nowcast_hi=101),)),
         "the nowcast rests on imputed values"),
        (CAST + MEASURED, estimate(indices=(index(120, nowcast=90, imputed_share=0.5, lo=1, hi=200),)),
         Evidence(90, 90, 90)),
        ('what = "nowcast"\nstandard = "us-epa-2024"', estimate(indices=(index(120, nowcast=90),)),
         Evidence(90, 90, 90)),
        ('what = "imputed_share"', estimate(pollutants={"pm25": imputed(9, 1, 20), "no2": measured(3)}),
         Evidence(0.5, 0.5, 0.5)),
        ('what = "imputed_share"', estimate(pollutants={}), "no pollutant has a value"),
        ('what = "flagged"\ntests = ["flat_line", "stuck"]',
         estimate(pollutants={"pm25": measured(1, qc_tests=FLAT_LINE | SPIKE),
                              "no2": measured(1, qc_tests=SPIKE),
                              "o3": imputed(9, 1, 2, raw=5.0, qc_tests=FLAT_LINE)}), Evidence(2, 2, 2)),
        ('what = "flagged"\ntests = ["stuck"]', estimate(pollutants={"pm25": imputed(9, 1, 2)}),
         "no sensor was read"),
        ('what = "frames"\nreasons = ["blocked"]',
         estimate(inputs=Inputs(readings=1, frames=tuple(
             FrameUse(camera="c", captured_at=from_ms(T0 * 1000), usable=not reasons, reasons=reasons)
             for reasons in (("blocked",), ("night",), (), ("dark", "blocked"))))), Evidence(0.5, 0.5, 0.5)),
        ('what = "frames"\nreasons = ["blocked"]', estimate(), "no frame was taken"),
    ],
)  # fmt: skip
def test_what_a_window_says(text, one, wanted):
    assert weigh(rule(text), one) == wanted


def test_what_a_station_never_measures_is_not_missed():
    share = rule('what = "imputed_share"')
    one = estimate(pollutants={"pm25": measured(3)} | {name: imputed(9, 1, 20) for name in ("no2", "o3")})
    assert weigh(share, one, ["pm25"]) == Evidence(0, 0, 0)
    assert weigh(share, one, ["pm25", "o3"]) == Evidence(0.5, 0.5, 0.5)
    assert weigh(share, one, []) == "no pollutant that this station measures has a value"
