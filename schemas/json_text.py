"""JSON that is made once, and then is part of whatever else is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class JsonText(str):
    """A value that is JSON already."""

    __slots__ = ()


_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def json_text(value: object) -> JsonText:
    """The shortest JSON of a value.

    Raises:
        ValueError: it holds a number that is none.
    """
    return JsonText(_encode(value))


def json_object(members: Mapping[str, Any]) -> JsonText:
    """The object with these members in their order; those that are `JsonText` go in as they are.

    Raises:
        ValueError: they hold a number that is none.
    """
    parts: list[str] = []
    others: dict[str, Any] = {}
    for name, value in members.items():
        if isinstance(value, JsonText):
            parts += (_members(others), f"{_encode(name)}:{value}")
            others = {}
        else:
            others[name] = value
    return JsonText("{" + ",".join(filter(None, (*parts, _members(others)))) + "}")


def _members(of: Mapping[str, Any]) -> str:
    return _encode(of)[1:-1] if of else ""
