"""The targets by name; each is imported only when it is fuzzed, since coverage is woven in while importing."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType

from tests.fuzz.target import Target

TARGETS = MappingProxyType(
    {
        "packet": "tests.fuzz.packet",
        "message": "tests.fuzz.message",
        "glance": "tests.fuzz.glance",
        "payload": "tests.fuzz.payload",
        "pipeline": "tests.fuzz.pipeline",
        "framing": "tests.fuzz.framing",
        "bridge": "tests.fuzz.bridge",
        "stamp": "tests.fuzz.stamp",
        "stamp-packet": "tests.fuzz.stamp_packet",
        "knowledge": "tests.fuzz.knowledge",
        "bandwidth": "tests.fuzz.bandwidth",
        "configuration": "tests.fuzz.configuration",
        "dialogue": "tests.fuzz.dialogue",
        "http": "tests.fuzz.http",
    }
)
"""Modules, each with its `TARGET`. A new decoder gets a line here, a module, and a file in corpus/."""


def target_named(name: str) -> Target:
    """Import a target."""
    target = import_module(TARGETS[name]).TARGET
    assert isinstance(target, Target)
    return target
