"""The file of keys: what is kept, what is refused, and how a running gateway sees a change."""

import os
import stat
import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.gateway.errors import KeyFileError
from sources.gateway.keys import KeyRing, StoredKey, changing_keys, digest_of, new_key, read_keys
from sources.gateway.rates import Rates, network_of


def stored(name: str = "roof", stations: tuple[str, ...] = ("a",), key: str | None = "k") -> StoredKey:
    return StoredKey(name=name, stations=stations, sha256=None if key is None else digest_of(key))


ids = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=8).map(
    lambda text: "a" + text
)


@given(st.lists(st.tuples(ids, st.lists(ids | ids.map(lambda one: one + "*"), min_size=1), st.booleans())))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, list[str], bool]]
) -> None:
    file = tmp_path_factory.mktemp("keys") / "gateway" / "keys.toml"
    wanted = [
        StoredKey(name=name, stations=tuple(stations), sha256=digest_of(name), signs=signs)
        for name, stations, signs in {entry[0]: entry for entry in entries}.values()
    ]
    with changing_keys(file) as keys:
        keys[:] = wanted
    assert read_keys(file) == wanted
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[key", "no TOML"),
        ("[[keys]]\nname = 'a'", r"\[\[key\]\]"),
        ("key = 3", r"\[\[key\]\]"),
        ("key = [3]", "key 1"),
        ("[[key]]\nname = 'a'\nstations = []", "key 1.*stations"),
        ("[[key]]\nname = 'a'\nstations = ['*x']", "key 1.*beginning"),
        ("[[key]]\nname = 'a'\nstations = ['x']\nsha256 = 'short'", "key 1.*sha256"),
        ("[[key]]\nname = 'a'\nstations = ['x']\nstation = 'x'", "key 1.*station"),
        ("[[key]]\nname = 'a'\nstations = ['x']\n[[key]]\nname = 'a'\nstations = ['y']", "two keys"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(KeyFileError, match=words) as raised:
        read_keys(file)
    assert str(file) in str(raised.value)


def test_a_change_counts_within_a_second_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    now = 0.0
    said: list[str] = []
    file = tmp_path / "keys.toml"
    ring = KeyRing(file, clock=lambda: now, complain=said.append)
    assert ring.holder("k") is None
    with changing_keys(file) as keys:
        keys.append(stored())
    now += 1.0
    found = ring.holder("k")
    assert found is not None
    assert (found.only, found.keyless) == ("a", False)
    assert (ring.keyless, len(ring)) == (None, 1)
    file.write_text("[[key]]\nname = 3\n")
    for _ in range(3):
        now += 1.0
        assert ring.holder("k") is not None
    assert len(said) == 1
    with changing_keys(tmp_path / "other.toml") as keys:
        keys.append(stored("open", ("b*", "c"), None))
    os.replace(tmp_path / "other.toml", file)
    now += 1.0
    assert ring.holder("k") is None
    assert ring.keyless is not None
    assert ring.keyless.covers("bb")
    file.unlink()
    now += 1.0
    assert ring.keyless is None


def test_an_interrupted_change_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    with changing_keys(file) as keys:
        keys.append(stored())
    before = file.read_text()

    def change() -> None:
        with changing_keys(file) as keys:
            keys.append(stored("other"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change()
    assert file.read_text() == before


def test_keys_are_long_and_not_in_the_file(tmp_path: Path) -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 46
    file = tmp_path / "keys.toml"
    with changing_keys(file) as keys:
        keys.append(stored(key=min(made)))
    assert min(made) not in file.read_text()
    assert tomllib.loads(file.read_text())["key"][0]["sha256"] == digest_of(min(made))


def test_a_rate_lets_a_burst_through_and_then_its_rate() -> None:
    rates = Rates(2.0)
    assert sum(rates.wait_s("a", 0.0) == 0 for _ in range(100)) == 40
    wait = rates.wait_s("a", 0.0)
    assert wait == pytest.approx(0.5)
    assert rates.wait_s("b", 0.0) == 0
    assert rates.wait_s("a", wait) == 0
    assert sum(rates.wait_s("a", 10.5) == 0 for _ in range(100)) == 20


def test_of_whoever_comes_a_bounded_number_is_remembered() -> None:
    rates = Rates(1.0)
    for number in range(30_000):
        rates.wait_s(f"{number}", 0.0)
    assert len(rates._left) == 20_000
    # Who came last is remembered, or a crowd would give everybody a full bucket.
    for _ in range(19):
        rates.wait_s("29999", 0.0)
    assert rates.wait_s("29999", 0.0) > 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("x" * 100, "x" * 200, True),
    ],
)
def test_who_an_address_is(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same
