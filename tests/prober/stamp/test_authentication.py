from __future__ import annotations

import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.stamp.authentication import LONGEST_KEY_BYTES, SHORTEST_KEY_BYTES, StampKey
from schemas.errors import HostError, UsageError

SECRET = bytes(range(32))


def key_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "stamp.key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_tag_is_the_first_half_of_hmac_sha_256() -> None:
    key = StampKey(SECRET)
    assert key.tag(b"abc") == hmac.digest(SECRET, b"abc", "sha256")[:16]
    assert key.verifies(b"abc", key.tag(b"abc"))
    assert not key.verifies(b"abd", key.tag(b"abc"))
    assert not key.verifies(b"abc", key.tag(b"abc")[:15])
    assert not key.verifies(b"abc", b"")


@given(st.binary(min_size=SHORTEST_KEY_BYTES, max_size=LONGEST_KEY_BYTES), st.lists(st.binary(max_size=200)))
def test_each_tag_of_a_key_is_that_of_its_data_alone(secret: bytes, messages: list[bytes]) -> None:
    key = StampKey(secret)
    assert [key.tag(data) for data in messages] == [hmac.digest(secret, data, "sha256")[:16] for data in messages]


def test_a_key_that_changes_takes_the_tags_of_the_one_before_and_of_the_one_to_come() -> None:
    before, now, later = (StampKey(bytes([number]) * 32) for number in range(3))
    key = StampKey(bytes([1]) * 32, (bytes([0]) * 32, bytes([2]) * 32))
    assert key.tag(b"abc") == now.tag(b"abc")
    assert all(key.verifies(b"abc", one.tag(b"abc")) for one in (before, now, later))
    assert not key.verifies(b"abd", later.tag(b"abc"))
    key.become(later)
    assert key.tag(b"abc") == later.tag(b"abc")
    assert not any(key.verifies(b"abc", one.tag(b"abc")) for one in (before, now))


def test_an_accepted_secret_of_another_length_is_refused() -> None:
    with pytest.raises(UsageError, match="got '15 octets', expected 16 to 64 octets"):
        StampKey(SECRET, (bytes(15),))


@pytest.mark.parametrize("text", [SECRET.hex(), SECRET.hex().upper() + "\n", SECRET.hex(" ", 4) + "\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_hexadecimal_digits_is_a_key(tmp_path: Path, text: str, mode: int) -> None:
    assert StampKey.from_file(key_file(tmp_path, text, mode)).tag(b"abc") == StampKey(SECRET).tag(b"abc")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o601])
def test_a_file_that_others_can_touch_is_refused_by_name_and_mode(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, SECRET.hex(), mode)
    with pytest.raises(UsageError, match=rf"{path.name} with mode {mode:04o}.*0600"):
        StampKey.from_file(path)


@pytest.mark.parametrize(
    "text", ["", "00" * 15, "00" * 65, "00" * 600, "0" * 33, "not hexadecimal at all, ever", "ä" * 32]
)
def test_a_file_that_holds_no_key_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="32 to 128 hexadecimal digits") as refused:
        StampKey.from_file(key_file(tmp_path, text))
    assert not text or text not in str(refused.value)


def test_a_file_that_is_not_there_or_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"none\.key: No such file"):
        StampKey.from_file(tmp_path / "none.key")
    with pytest.raises(HostError, match="directory"):
        StampKey.from_file(tmp_path)
    with pytest.raises(UsageError, match="a regular file"):
        StampKey.from_file(Path("/dev/null"))


@pytest.mark.parametrize("size", [SHORTEST_KEY_BYTES - 1, LONGEST_KEY_BYTES + 1])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match="16 to 64 octets"):
        StampKey(bytes(size))


def test_no_text_of_a_key_shows_it() -> None:
    key = StampKey(SECRET)
    for text in (repr(key), str(key), f"{key!r}", repr([key])):
        assert SECRET.hex() not in text
        assert "StampKey(...)" in text
    with pytest.raises(UsageError, match="other text"):
        StampKey.from_hex("secret words")
