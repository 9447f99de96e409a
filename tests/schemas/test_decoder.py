from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from schemas.authentication import Standing, record_standings, sealed, signed_request
from schemas.decoder import message_from_document
from schemas.message import Message
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import head_to_xml, message_to_xml, untagged_record
from tests.messages import messages
from tests.receiver.paths import delay, measured
from tests.schemas.test_glance import KEYRING, REQUEST

(KEY,) = KEYRING.keys


def signed_document(*, written: bytes = b"", instead: bytes = b"") -> bytes:
    """One record by a point that writes `instead` where others write `written`."""
    octets = head_to_xml(signed_request(REQUEST, KEYRING)) + untagged_record(measured(0, delay=delay(5.0)))
    return sealed(octets.replace(written, instead, 1), KEY)


@given(messages())
def test_what_points_write_is_read_as_the_decoder_reads_it_and_kept(message: Message) -> None:
    document = message_to_xml(message)
    read = message_from_document(document)
    assert read == message_from_xml(document) == message
    assert read.document == document


def test_of_a_document_in_another_form_only_its_values_are_kept() -> None:
    document = message_to_xml(Message(request=REQUEST)).replace(b"<mr>", b"<mr >")
    read = message_from_document(document)
    assert read == Message(request=REQUEST)
    assert read.document is None


def test_a_message_that_was_made_of_another_has_not_its_document() -> None:
    read = message_from_document(signed_document())
    assert read.document is not None
    changed = replace(read, records=(replace(read.records[0], age_ms=read.records[0].age_ms + 1),))
    assert changed.document is None
    assert record_standings(read, KEYRING) == (Standing.AUTHENTIC,)
    assert record_standings(changed, KEYRING) == (Standing.FORGED,)


def test_a_tag_covers_the_octets_that_its_author_wrote() -> None:
    """Another point may write a number with more digits than we do."""
    document = signed_document(written=b' v="5" ', instead=b' v="5.00" ')
    read = message_from_document(document)
    assert document != message_to_xml(read)
    assert record_standings(read, KEYRING) == (Standing.AUTHENTIC,)
