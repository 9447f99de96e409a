from __future__ import annotations

import random
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree

from schemas.errors import MessageError
from schemas.message import Message, check_consistency
from schemas.metrics import METRICS, ScalarStatistics
from schemas.xml_reader import MAX_XML_BYTES, message_from_xml
from schemas.xml_writer import END_TAG, message_to_xml, record_to_xml
from tests.messages import messages, records
from tests.receiver.paths import delay, measured
from tests.receiver.paths import message as path_message

SCHEMA = etree.XMLSchema(etree.fromstring(files("schemas").joinpath("measurement.xsd").read_bytes()))
VECTORS = Path(__file__).parent.parent / "vectors"


def schema_allows(data: bytes) -> bool:
    """What lxml and the XSD say, under the rules that the schema's documentation adds."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, encoding="UTF-8")
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        return False
    tree = root.getroottree()
    return not getattr(tree.docinfo, "doctype", "") and bool(SCHEMA.validate(tree))


def decoder_allows(data: bytes) -> bool:
    try:
        message_from_xml(data)
    except MessageError:
        return False
    return True


@given(messages())
def test_decoding_reverses_encoding(message: Message) -> None:
    assert message_from_xml(message_to_xml(message)) == message


@given(messages())
def test_every_encoded_message_is_allowed_by_the_schema_and_consistent(message: Message) -> None:
    assert schema_allows(message_to_xml(message))
    check_consistency(message)


@given(st.binary(max_size=300))
@example(b"")
@example(b"<m/>")
@example(b"\xff\xfe<\x00m\x00/\x00>\x00")
def test_any_bytes_decode_or_raise_message_error(data: bytes) -> None:
    assert decoder_allows(data) == schema_allows(data)


PIECES = [
    *(f"<{name}>" for name in ("m", "mr", "mrp", "hs", "ms", "ts", "un")),
    *(f"</{name}>" for name in ("m", "mr", "mrp", "hs", "ms", "ts", "un")),
    *(
        "0",
        "1",
        "-1",
        "01",
        "1.5",
        "1e3",
        "NaN",
        "255.255.255.255",
        "256.1.1.1",
        "delay",
        "delay loss",
        " ",
        "\n",
        "",
    ),
    *(
        '<delay n="1"/>',
        '<loss n="1" k="0" w="1"/>',
        ' s="pending"',
        ' s="measured"',
        ' x="1"',
        "<!-- c -->",
        "<?p?>",
    ),
    *(
        "&#49;",
        "&lt;",
        "\u00a0",
        "\u2003",
        "\u0085",
        "<![CDATA[1]]>",
        "\u00e9",
        "&e;",
        " xmlns='u'",
        " xmlns:q='u'",
        "999999999999999",
        "1" * 16,
    ),
]


@settings(max_examples=400)
@given(messages(), st.data())
def test_the_decoder_is_neither_stricter_nor_laxer_than_the_schema(message: Message, data: st.DataObject) -> None:
    text = message_to_xml(message).decode()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from((0, 0, 1, 2, 5, 20)))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[start + length :]
    document = text.encode()
    assert decoder_allows(document) == schema_allows(document), text


def test_swapped_repeated_and_missing_elements_are_judged_as_the_schema_does() -> None:
    rng = random.Random(7)
    text = (VECTORS / "valid" / "all-metrics.xml").read_text()
    root = etree.fromstring(text.encode())
    for _ in range(300):
        copy = etree.fromstring(text.encode())
        nodes = list(copy.iter())
        victim = rng.choice(nodes[1:])
        parent = victim.getparent()
        assert parent is not None
        match rng.randrange(3):
            case 0:
                parent.remove(victim)
            case 1:
                parent.insert(
                    rng.randrange(len(parent) + 1), etree.fromstring(etree.tostring(rng.choice(nodes[1:])))
                )
            case _:
                parent.append(victim)
        document = etree.tostring(copy)
        assert decoder_allows(document) == schema_allows(document), document
    assert decoder_allows(etree.tostring(root))


@pytest.mark.parametrize("path", sorted((VECTORS / "valid").glob("*.xml")), ids=lambda path: path.stem)
def test_each_valid_vector_decodes(path: Path) -> None:
    data = path.read_bytes()
    assert schema_allows(data)
    assert message_from_xml(message_to_xml(message_from_xml(data))) == message_from_xml(data)


@pytest.mark.parametrize("path", sorted((VECTORS / "invalid").glob("*.xml")), ids=lambda path: path.stem)
def test_each_invalid_vector_is_refused(path: Path) -> None:
    with pytest.raises(MessageError):
        message_from_xml(path.read_bytes())


@given(st.floats(allow_nan=False), st.floats(min_value=0, allow_nan=False), st.floats(allow_nan=False))
@example(-2e6, 2.6e15, 7.8e21)  # of a clock that jumped by hours
def test_no_number_that_is_measured_makes_a_message_that_nobody_reads(
    mean_ms: float, variance_ms2: float, third_moment_ms3: float
) -> None:
    jumpy = replace(delay(1.0), mean_ms=mean_ms, variance_ms2=variance_ms2, third_moment_ms3=third_moment_ms3)
    data = message_to_xml(path_message([measured(0, delay=jumpy)]))
    assert schema_allows(data)
    assert decoder_allows(data)


def test_the_error_names_element_value_and_expectation() -> None:
    text = (VECTORS / "valid" / "request-only.xml").read_text().replace("<lt>5000</lt>", "<lt>soon</lt>")
    with pytest.raises(MessageError, match=r"lt: got 'soon', expected a whole number"):
        message_from_xml(text.encode())


def test_a_message_over_the_size_limit_is_refused_before_parsing() -> None:
    with pytest.raises(MessageError, match="at most 65536"):
        message_from_xml(b"<" * (MAX_XML_BYTES + 1))


@given(messages(), st.data())
def test_a_record_spliced_in_before_the_end_is_the_last_of_the_decoded_message(
    message: Message, data: st.DataObject
) -> None:
    record = data.draw(records(message.latest_point, message.request.metrics))
    spliced = message_to_xml(message)[: -len(END_TAG)] + record_to_xml(record) + END_TAG
    assert message_from_xml(spliced).records == (*message.records, record)


def test_every_metric_of_the_registry_has_its_element_in_the_schema() -> None:
    document = etree.fromstring(files("schemas").joinpath("measurement.xsd").read_bytes())
    names = {"x": "http://www.w3.org/2001/XMLSchema"}
    listed = document.xpath("//x:complexType[@name='record']//x:element/@name", namespaces=names)
    own = [name for name, metric in METRICS.items() if metric.statistics is not ScalarStatistics]
    assert listed == ["up", "mp", "ts", "ag", "fr", *own, "x", "un", "a"]
