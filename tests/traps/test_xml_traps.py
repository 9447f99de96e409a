from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import MessageError
from schemas.payload import COMPRESSED, message_from_payload
from schemas.xml_reader import MAX_XML_BYTES, message_from_xml
from schemas.xml_writer import message_to_xml
from tests.receiver.paths import message, usual

VALID = message_to_xml(message([usual(0)]))
SOON_S = 20

READ = """
import sys
from schemas.errors import MessageError
from schemas.xml_reader import message_from_xml
try:
    message_from_xml(sys.stdin.buffer.read())
except MessageError as error:
    print(error)
"""


# A parser that reads an external subset opens whatever its address names, and hangs on a FIFO.
@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE m SYSTEM "{url}">',
        '<!DOCTYPE m PUBLIC "-//x//y" "{url}">',
        '<!DOCTYPE m [<!ENTITY % all SYSTEM "{url}"> %all;]>',
        '<!DOCTYPE m [<!ENTITY text SYSTEM "{url}">]>',
    ],
    ids=["system", "public", "parameter entity", "general entity"],
)
def test_an_external_fifo_that_a_doctype_names_is_never_opened(tmp_path: Path, declaration: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    document = declaration.format(url=fifo.as_uri()).encode() + VALID.replace(b"<m>", b"<m>&text;", 1)
    # Whoever opens the FIFO to read it waits for a writer for ever.
    read = subprocess.run(
        [sys.executable, "-c", READ], input=document, capture_output=True, timeout=SOON_S, check=True
    )
    assert read.stdout == b"message: got a DOCTYPE, expected none\n"
    with pytest.raises(OSError, match="No such device") as nobody_reads:
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    assert nobody_reads.value.errno == errno.ENXIO


# A parser that leaves entities alone leaves their text out, and an address is another one then.
@pytest.mark.parametrize("entity", ["&unknown;", "&#x31;&unknown;"])
def test_an_entity_never_makes_text_vanish(entity: str) -> None:
    for place in (b"<hs>", b"<hd>", b"<id>", b"<up>"):
        with pytest.raises(MessageError, match="undefined entity"):
            message_from_xml(VALID.replace(place, place + entity.encode(), 1))


def test_the_entities_of_xml_itself_are_text() -> None:
    written = VALID.replace(b"<hs>10.", b"<hs>&#49;0&#x2e;", 1)
    assert written != VALID
    assert message_from_xml(written) == message_from_xml(VALID)


# Two million empty elements are legal XML; only a limit of octets in front of the parser stops them.
def test_a_flood_of_elements_is_refused_by_its_octets_before_it_is_parsed() -> None:
    with pytest.raises(MessageError, match="octets, expected at most"):
        message_from_xml(b"<m>" + b"<a/>" * (MAX_XML_BYTES // 4) + b"</m>")
    with pytest.raises(MessageError):
        message_from_payload(COMPRESSED + b"\0" * 64)


# lxml costs more than a packet may, and its options are where the traps are.
@pytest.mark.parametrize(
    "module",
    ["processor.pipeline", "interceptor.nfqueue", "mp.packet_process", "mp.daemon", "receiver.server", "mp.cli"],
)
def test_lxml_is_no_part_of_a_running_point(module: str) -> None:
    script = f"import sys, {module}; print(sorted(name for name in sys.modules if name.startswith('lxml')))"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=SOON_S, check=True
    ).stdout
    assert said == "[]\n"
