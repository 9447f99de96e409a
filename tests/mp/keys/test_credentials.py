from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from mp.bridge import MAX_EVENT_BYTES, CredentialsChanged, event_from_bytes, event_to_bytes
from mp.keys.credentials import Credentials
from mp.keys.directory import MAX_KEYS, MAX_OCTETS, KeyDirectory
from mp.keys.key_text import MAX_AREAS, key_to_text
from mp.keys.settings import MAX_PREFIXES, Authentication, SecuritySettings
from schemas.authentication import sealed
from schemas.keyring import HmacKey, KeyIdentity, Keyring, SigningKey, VerifyingKey
from schemas.message import MeasureRequest, Message, SegmentRecord, SegmentState
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import END_TAG, message_to_xml, untagged_record

LONGEST_NAME = 63
SECRET = bytes(range(100, 132))


def settings(
    areas: Mapping[str, tuple[IPv4Network, ...]], area: str = "west", keys_dir: Path | None = None
) -> SecuritySettings:
    return SecuritySettings(area=area, areas=areas, keys_dir=keys_dir, authentication=Authentication.REQUIRED)


def test_the_packet_process_gets_all_keys_and_areas(tmp_path: Path) -> None:
    known = settings(
        {"west": (IPv4Network("10.1.0.0/16"),), "east": (IPv4Network("10.2.0.0/16"),)}, keys_dir=tmp_path
    )
    directory = KeyDirectory(tmp_path)
    directory.add(shared := HmacKey(KeyIdentity(id="w", areas=("west",)), SECRET))
    directory.add(pair := SigningKey(KeyIdentity(id="p", areas=("west",)), SECRET))
    directory.add(public := VerifyingKey(KeyIdentity(id="e", areas=("east",)), pair.public_bytes()))
    told = event_to_bytes(CredentialsChanged(credentials=Credentials.read(known).to_document(known)))
    event = event_from_bytes(told)
    assert isinstance(event, CredentialsChanged)
    there = Credentials.from_document(event.credentials)
    assert there.is_required
    for key in (shared, pair, public):
        found = there.keyring.key(key.id)
        assert found is not None
        assert (type(found), found.identity) == (type(key), key.identity)
    own, foreign = there.keyring.signer("10.1.0.1", "10.1.0.2"), there.keyring.signer("10.1.0.1", "10.2.0.1")
    assert own is not None
    assert own.tag(b"abc") == shared.tag(b"abc")
    assert foreign is not None
    assert foreign.tag(b"abc") == pair.tag(b"abc")


@pytest.mark.parametrize(("areas_each", "operator"), [(1, "\u2603" * 80), (MAX_AREAS, "")])
def test_the_most_that_can_be_configured_fits_into_one_event(areas_each: int, operator: str) -> None:
    names = [f"{number:03}".rjust(LONGEST_NAME, "n") for number in range(MAX_PREFIXES)]
    areas = {
        name: (IPv4Network(f"255.255.{number // 64}.{number % 64 * 4}/30"),) for number, name in enumerate(names)
    }
    keys = [
        HmacKey(
            KeyIdentity(
                id=f"{number:02}".rjust(16, "k"),
                areas=tuple(names[:areas_each]),
                operator=operator,
                created_at_ms=1_700_000_000_000,
            ),
            SECRET,
        )
        for number in range(MAX_KEYS)
    ]
    keys = keys[: MAX_OCTETS // len(key_to_text(keys[0]).encode())]
    known = settings(areas, area=names[0])
    credentials = Credentials(keyring=Keyring(keys, area=names[0], areas=areas), is_required=True)
    event = CredentialsChanged(credentials=credentials.to_document(known))
    assert len(event_to_bytes(event)) < MAX_EVENT_BYTES


def test_no_secret_is_in_what_a_process_could_log(caplog: pytest.LogCaptureFixture) -> None:
    key = HmacKey(KeyIdentity(id="w", areas=("west",)), SECRET)
    known = settings({})
    credentials = Credentials(keyring=Keyring([key], area="west"))
    event = CredentialsChanged(credentials=credentials.to_document(known))
    caplog.set_level(logging.DEBUG)
    logging.getLogger("test").debug("%r %r %r %s", credentials, event, known, [key])
    assert "w" in caplog.text
    secret_text = credentials.to_document(known)["keys"][0].split('secret = "')[1].split('"')[0]
    assert len(secret_text) == 44
    for form in (secret_text, SECRET.hex(), repr(SECRET)[2:-1]):
        assert form not in caplog.text


def hello_answer(key: HmacKey | None, *, is_changed: bool = False) -> Message:
    """A hello and its answer, by points in 10.1.0.0/16."""
    request = MeasureRequest(
        source="10.1.0.1",
        destination="10.1.0.9",
        id="ab" * 16,
        metrics=("delay",),
        created_at_ms=1,
        lifetime_ms=5000,
        max_age_ms=0,
        hello=True,
    )
    record = SegmentRecord(upstream="10.1.0.1", current="10.1.0.2", state=SegmentState.PENDING, recorded_at_ms=1)
    octets = message_to_xml(Message(request=request))[: -len(END_TAG)] + untagged_record(record)
    message = message_from_xml(sealed(octets, key))
    if not is_changed:
        return message
    return replace(message, records=(replace(message.records[0], current="10.1.0.66"),))


@pytest.mark.parametrize(
    ("is_signed", "is_changed", "accepted", "required"),
    [(True, False, True, True), (True, True, False, False), (False, False, True, False)],
    ids=["signed", "forged", "unsigned"],
)
def test_an_answer_is_believed_as_far_as_its_tags_and_the_configuration_allow(
    is_signed: bool, is_changed: bool, accepted: bool, required: bool
) -> None:
    key = HmacKey(KeyIdentity(id="w", areas=("west",)), SECRET)
    keyring = Keyring([key], area="west", areas={"west": (IPv4Network("10.1.0.0/16"),)})
    message = hello_answer(key if is_signed else None, is_changed=is_changed)
    assert Credentials(keyring=keyring).believes(message) is accepted
    assert Credentials(keyring=keyring, is_required=True).believes(message) is required
