"""GraphML of the Internet Topology Zoo -> a topology.

Every node becomes a router in one area. Its name is the label in lower case, with one `-` for each run of
other characters than letters and digits and none at the ends; a second node of that name gets `-2`, and so
on; a node without a label gets its id. A link's delay is the great-circle distance at 200 km/ms; where
an end has no coordinates, it is the median of the delays that are known. Routes follow the least delay. Parallel
edges collapse into one link, self loops are dropped. Link speeds are not applied: no machine emulates the
10 Gbit/s that the files speak of. Every node runs a measurement point until `--points` says otherwise.
"""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from xml.parsers import expat

from lab.impairment import Impairment
from lab.topology import MAX_LAB_NAME_LENGTH, MAX_NODE_NAME_LENGTH, Link, Node, Routing, Topology
from schemas.errors import ConfigurationError

EARTH_RADIUS_KM = 6371.0
FIBER_KM_PER_MS = 200.0
"""Light in glass covers two thirds of its 300 km/ms in free space (ITU-T G.826: 5 us/km)."""

MIN_DELAY_MS = 0.05
"""Two nodes in one city: some kilometers of fiber and two interfaces."""

DEFAULT_DELAY_MS = 1.0
"""For a network in which no link has coordinates at both ends."""

MAX_FILE_BYTES = 20_000_000
"""The largest file of the Topology Zoo has about half a million."""


@dataclass(frozen=True, slots=True)
class _Place:
    latitude_degrees: float
    longitude_degrees: float


def topology_from_graphml(data: bytes, file: str) -> Topology:
    """Read a network of the Topology Zoo.

    Args:
        data: what the file holds; its XML declaration tells the encoding.
        file: its name; its stem names the lab.

    Raises:
        ConfigurationError: the text is no GraphML with at least one node, or carries a document type.
    """
    graph, keys = _graph(data, file)
    nodes = [element for element in graph.iter() if _tag(element) == "node"]
    if not nodes:
        raise ConfigurationError(f"{file}: graph", "no node", "at least one <node>")
    names = _names_by_id(nodes, keys, file)
    places = {_node_id(node, file): _place(node, keys, file) for node in nodes}
    edges = list(_edges(graph, names, file))
    return Topology(
        name=slug(PurePath(file).stem, MAX_LAB_NAME_LENGTH) or "lab",
        routing=Routing.STATIC,
        nodes=tuple(Node(name=name, point=True) for name in names.values()),
        links=tuple(_links(edges, names, places)),
    )


def slug(label: str, max_length: int) -> str:
    """The label as a name: lower case, accents dropped, one `-` for each run of anything else."""
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:max_length].strip("-")


def unique_names(labels: Sequence[str], max_length: int) -> list[str]:
    """The labels as names of which none comes twice; the later of two gets `-2`, then `-3`."""
    taken: set[str] = set()
    names = []
    for label in labels:
        name = base = slug(label, max_length) or "node"
        number = 1
        while name in taken:
            number += 1
            suffix = f"-{number}"
            name = base[: max_length - len(suffix)].strip("-") + suffix
        taken.add(name)
        names.append(name)
    return names


def distance_km(a: _Place, b: _Place) -> float:
    """Great-circle distance (haversine formula) on a sphere of the Earth's mean radius."""
    latitude_a, latitude_b = math.radians(a.latitude_degrees), math.radians(b.latitude_degrees)
    half_latitude = (latitude_b - latitude_a) / 2
    half_longitude = math.radians(b.longitude_degrees - a.longitude_degrees) / 2
    haversine = (
        math.sin(half_latitude) ** 2 + math.cos(latitude_a) * math.cos(latitude_b) * math.sin(half_longitude) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, haversine)))


def _graph(data: bytes, file: str) -> tuple[ElementTree.Element, Mapping[str, str]]:
    """Return the first graph and, for the ids of the keys that describe nodes, their names."""
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(file, f"{len(data)} octets", f"at most {MAX_FILE_BYTES}")
    try:
        _refuse_document_type(data, file)
        root = ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise ConfigurationError(file, str(error), "a GraphML document") from None
    graph = next((element for element in root.iter() if _tag(element) == "graph"), None)
    if _tag(root) != "graphml" or graph is None:
        raise ConfigurationError(file, f"<{_tag(root)}>", "<graphml> with a <graph>")
    keys = {
        element.get("id", ""): element.get("attr.name", "")
        for element in root.iter()
        if _tag(element) == "key" and element.get("for") in ("node", "all", None)
    }
    return graph, keys


def _refuse_document_type(data: bytes, file: str) -> None:
    """Refuse a DTD before anything of it is read, and with it every entity that could grow."""

    def refuse(name: str, *_: object) -> None:
        raise ConfigurationError(file, f"<!DOCTYPE {name}>", "GraphML without a document type")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _node_id(node: ElementTree.Element, file: str) -> str:
    identifier = node.get("id")
    if identifier is None:
        raise ConfigurationError(f"{file}: <node>", "no id", "an id")
    return identifier


def _attributes(node: ElementTree.Element, keys: Mapping[str, str]) -> dict[str, str]:
    return {
        keys[data.get("key", "")]: (data.text or "").strip()
        for data in node
        if _tag(data) == "data" and data.get("key", "") in keys
    }


def _names_by_id(nodes: Sequence[ElementTree.Element], keys: Mapping[str, str], file: str) -> dict[str, str]:
    ids = [_node_id(node, file) for node in nodes]
    for position, identifier in enumerate(ids):
        if identifier in ids[:position]:
            raise ConfigurationError(f"{file}: <node>: id", identifier, "an id of its own")
    labels = [
        label if slug(label := _attributes(node, keys).get("label", ""), 1) else identifier
        for node, identifier in zip(nodes, ids, strict=True)
    ]
    return dict(zip(ids, unique_names(labels, MAX_NODE_NAME_LENGTH), strict=True))


def _place(node: ElementTree.Element, keys: Mapping[str, str], file: str) -> _Place | None:
    attributes = _attributes(node, keys)
    texts = [attributes.get("Latitude", ""), attributes.get("Longitude", "")]
    if not all(texts):
        return None
    degrees = []
    for name, text, limit in zip(("Latitude", "Longitude"), texts, (90.0, 180.0), strict=True):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) <= limit:
            field = f"{file}: <node id={_node_id(node, file)!r}>: {name}"
            raise ConfigurationError(field, text, f"degrees from -{limit:g} to {limit:g}")
        degrees.append(value)
    return _Place(*degrees)


def _edges(graph: ElementTree.Element, names: Mapping[str, str], file: str) -> Iterator[tuple[str, str]]:
    """The pairs of ids that some edge joins, each pair once, in the order of the file."""
    seen = set()
    for number, edge in enumerate((e for e in graph.iter() if _tag(e) == "edge"), start=1):
        ends = []
        for end in ("source", "target"):
            identifier = edge.get(end)
            if identifier is None or identifier not in names:
                raise ConfigurationError(f"{file}: <edge> {number}: {end}", identifier, "the id of a node")
            ends.append(identifier)
        pair = frozenset(ends)
        if len(pair) == 2 and pair not in seen:
            seen.add(pair)
            yield ends[0], ends[1]


def _links(
    edges: Sequence[tuple[str, str]], names: Mapping[str, str], places: Mapping[str, _Place | None]
) -> Iterator[Link]:
    known = [_delay_ms(places[a], places[b]) for a, b in edges]
    delays_ms = [delay for delay in known if delay is not None]
    median_ms = statistics.median(delays_ms) if delays_ms else DEFAULT_DELAY_MS
    for (a, b), known_ms in zip(edges, known, strict=True):
        delay_ms = round(median_ms if known_ms is None else known_ms, 3)
        impairment = Impairment(delay_ms=delay_ms)
        cost = round(delay_ms * 1000)
        yield Link(a=names[a], b=names[b], a_to_b=impairment, b_to_a=impairment, cost=cost)


def _delay_ms(a: _Place | None, b: _Place | None) -> float | None:
    if a is None or b is None:
        return None
    return max(MIN_DELAY_MS, distance_km(a, b) / FIBER_KM_PER_MS)
