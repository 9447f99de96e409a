"""The form in which points write messages, as regular expressions.

They never take what `measurement.xsd` refuses. That the parts of a message agree with each other they know only as
far as they say so.
"""

from __future__ import annotations

import re

from schemas.message import MAX_RECORDS
from schemas.metrics import METRICS, ScalarStatistics, Statistics, statistic_fields
from schemas.xml_reader import MAX_METRICS
from schemas.xml_writer import END_TAG

# Each alternative begins with another octet and keeps what it took, so that nothing is ever tried twice.
_OCTET = rb"(?:1[0-9]{0,2}+|2(?:[0-4][0-9]?+|5[0-5]?+|[6-9])?+|[3-9][0-9]?+|0)"
_ADDRESS = rb"\.".join([_OCTET] * 4)
_COUNT = rb"(?:0|[1-9][0-9]{0,14}+)"
_NUMBER = rb"-?+" + _COUNT + rb"(?:\.[0-9]{1,9}+)?+"
_BIN = rb"-?+[1-9][0-9]{0,14}+"
_IDENTIFIER = rb"[0-9a-f]{32}"
_NAMES = rb"[a-z0-9 -]++"
_KEY_ID = rb"[a-z0-9][a-z0-9.-]{0,15}+"
_TAG = rb"[A-Za-z0-9_-]{21}(?:[A-Za-z0-9_-]{64}[AQgw]|[AQgw])"
_BY_TYPE = {int: _COUNT, float: _NUMBER, bool: rb"[01]", str: _BIN + rb"(?: " + _BIN + rb"){0,255}+"}


def _attributes(kind: type[Statistics]) -> bytes:
    return b"".join(b' %b="%b"' % (wire.encode(), _BY_TYPE[one]) for _, wire, _, one in statistic_fields(kind))


OWN_ELEMENTS = {
    name: b"<%b%b/>" % (name.encode(), _attributes(metric.statistics))
    for name, metric in METRICS.items()
    if metric.statistics is not ScalarStatistics
}
"""In the order in which a record lists them."""
_SCALAR = b'<x m="[a-z0-9-]++"%b/>' % _attributes(ScalarStatistics)
SCALAR_NAME = re.compile(rb'<x m="([a-z0-9-]++)"')


def _optional(pattern: bytes) -> bytes:
    return b"(?:%b)?+" % pattern


_REQUEST = b"".join(
    (
        rb"<m><mr><hs>(?P<hs>%b)</hs><hd>(%b)</hd><id>(%b)</id>" % (_ADDRESS, _ADDRESS, _IDENTIFIER),
        rb"<ms>(%b)</ms><ct>(%b)</ct><lt>(%b)</lt><ma>(%b)</ma>" % (_NAMES, _COUNT, _COUNT, _COUNT),
        _optional(b"<cp>(%b)</cp>" % _COUNT),
        _optional(b"<pt>(%b)</pt>" % _COUNT),
        _optional(b"<lp>(?P<lp>%b)</lp>" % _ADDRESS),
        _optional(b"<ri>(%b)</ri>" % _IDENTIFIER),
        _optional(b"<rt>([01])</rt>"),
        _optional(b"<he>([01])</he>"),
        _optional(b'<sl i="(%b)" n="(%b)"/>' % (_COUNT, _COUNT)),
        _optional(b"<pv>(%b)</pv>" % _TAG),
        _optional(b'<a k="(%b)" t="(%b)"/>' % (_KEY_ID, _TAG)),
        b"</mr>",
    )
)
_WHEN = b"<ts>%b</ts>%b%b" % (_COUNT, _optional(b"<ag>%b</ag>" % _COUNT), _optional(b"<fr>%b</fr>" % _ADDRESS))
_END = _optional(b'<a k="%b" t="%b"/>' % (_KEY_ID, _TAG)) + b"</mrp>"

HEAD = re.compile(_REQUEST)
RECORD = re.compile(
    b"".join(
        (
            b'<mrp( s="pending")?+><up>(?P<up>%b)</up><mp>(?P<mp>%b)</mp>' % (_ADDRESS, _ADDRESS),
            _WHEN,
            *(b"(%b)?+" % element for element in OWN_ELEMENTS.values()),
            b"((?:%b){0,%d}+)" % (_SCALAR, MAX_METRICS),
            _optional(b"<un>(%b)</un>" % _NAMES),
            _END,
        )
    )
)


def usual_pattern(names: frozenset[str]) -> re.Pattern[bytes]:
    """The whole document, if all of its records tell all of the metrics, and these have elements of their own.

    Behind the request, and behind each record, the next record begins where that one ends.
    """
    elements = b"".join(element for name, element in OWN_ELEMENTS.items() if name in names)
    goes_on = b"(?=<mrp><up>%b</up>|</m>)"
    record = b"<mrp><up>%b</up><mp>(?P<mp>%b)</mp>%b%b%b%b" % (
        *(_ADDRESS, _ADDRESS, _WHEN),
        *(elements, _END, goes_on % b"(?P=mp)"),
    )
    first = goes_on % b"(?(lp)(?P=lp)|(?P=hs))"
    return re.compile(b"%b%b(?:%b){0,%d}+%b" % (_REQUEST, first, record, MAX_RECORDS, END_TAG))
