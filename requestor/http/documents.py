"""What the service answers, as the OpenAPI document describes it; results and verdicts by their own schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from requestor.http.problems import MEDIA_TYPE, TITLES, TYPE_PREFIX
from requestor.profile import Profile

JSON = "application/json"
_REFERENCE = "#/components/schemas/"
_SCHEMA_FILES = {"Result": "result.schema.json", "Verdict": "verdict.schema.json"}
_Responses = dict[int | str, dict[str, Any]]

_WHAT_HAPPENED: Final[Mapping[int, str]] = {
    400: "The request is no HTTP, or its body no JSON.",
    401: "No token, or one that is not known, revoked or expired.",
    403: "The token lacks the scope, or the local user may not ask.",
    404: "There is none.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    422: "A value cannot be meant: `field`, `value` and `expected` say which.",
    429: "Too often, or too many at once; `Retry-After` says when to come again.",
    502: "The point is away or refuses.",
    503: "Not now: too many connections, the database is away, or the point does not answer.",
    504: "The point did not answer in time.",
}


def reference(name: str) -> dict[str, Any]:
    """A schema of the document's own."""
    return {"$ref": _REFERENCE + name}


def _object(properties: Mapping[str, Any], *optional: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": dict(properties),
        "additionalProperties": False,
    }


def _responses(schema: Mapping[str, Any], *problems: int, status: int = 200, media_type: str = JSON) -> _Responses:
    found: _Responses = {status: {"description": "The answer.", "content": {media_type: {"schema": dict(schema)}}}}
    for code in (400, 401, 403, 408, 413, 422, 429, *problems):
        found[code] = {
            "description": _WHAT_HAPPENED[code],
            "content": {MEDIA_TYPE: {"schema": reference("Problem")}},
        }
    return found


_ASKS_POINT = (502, 504)
_OPEN_OBJECT = {"type": "object"}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_COUNT_OR_NULL = {"type": ["integer", "null"]}
_NEIGHBOR = {
    "address": _TEXT,
    "role": _TEXT,
    "state": _TEXT,
    "newest_sample_age_s": _NUMBER_OR_NULL,
    "hops": _COUNT_OR_NULL,
}

ANSWER = _responses(reference("Answer"), *_ASKS_POINT)
ACCEPTED = _responses(reference("Measurement"), status=202)
ACCEPTED[202]["headers"] = {"Location": {"description": "Where to fetch it.", "schema": _TEXT}}
MEASUREMENT = _responses(reference("Measurement"), 404)
BATCH = _responses(_object({"outcomes": {"type": "array", "items": reference("Outcome")}}), *_ASKS_POINT)
VERDICT = _responses(reference("Verdict"), *_ASKS_POINT)
PROFILES = _responses({"type": "object", "additionalProperties": reference("Profile")})
EVENTS = _responses(_TEXT, media_type="text/event-stream")
EVENTS[200]["description"] = (
    "Events `path` with the data {changes, result, verdict}, and `problem` with a problem; changes are `first`, "
    "`status`, `route`, `verdict`, `value`."
)
HISTORY = _responses(
    _object({"results": {"type": "array", "items": reference("Result")}, "next": _TEXT_OR_NULL}), 503
)
POINT = _responses(_OPEN_OBJECT, *_ASKS_POINT)
NEIGHBORS = _responses(_object({"neighbors": {"type": "array", "items": _object(_NEIGHBOR)}}), *_ASKS_POINT)
SEGMENTS = _responses(
    _object(
        {
            "segments": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["upstream", "current", "state"],
                    "properties": {"upstream": _TEXT, "current": _TEXT, **_NEIGHBOR},
                },
            }
        }
    ),
    *_ASKS_POINT,
)
_READINESS = _object({"ready": {"type": "boolean"}, "point": _TEXT, "store": _TEXT_OR_NULL})
HEALTH: _Responses = {
    200: {"description": "It lives.", "content": {JSON: {"schema": _object({"status": {"const": "ok"}})}}}
}
READINESS: _Responses = {
    200: {"description": "Yes.", "content": {JSON: {"schema": _READINESS}}},
    503: {"description": "No.", "content": {JSON: {"schema": _READINESS}}},
}

_LIMIT = _object(
    {"metric": _TEXT, "sense": {"enum": ["at-most", "at-least"]}, "limit": {"type": "number"}, "source": _TEXT}
)
_SCHEMAS: Mapping[str, Any] = {
    "Answer": _object(
        {"result": reference("Result"), "return": reference("Result"), "verdict": reference("Verdict")},
        "return",
        "verdict",
    ),
    "Measurement": _object(
        {
            "id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "state": {"enum": ["running", "done", "failed"]},
            "answer": reference("Answer"),
            "problem": reference("Problem"),
        },
        "answer",
        "problem",
    ),
    "Outcome": _object(
        {"source": _TEXT, "destination": _TEXT, "answer": reference("Answer"), "problem": reference("Problem")},
        "answer",
        "problem",
    ),
    "Profile": _object({"limits": {"type": "array", "items": _LIMIT, "minItems": 1}}),
    "Problem": {
        "description": "RFC 9457. Not from this service are problems that a proxy in front of it makes.",
        **_object(
            {
                "type": {"enum": [TYPE_PREFIX + kind for kind in TITLES]},
                "title": _TEXT,
                "status": {"type": "integer"},
                "detail": {"description": "One line for a person.", **_TEXT},
                "field": {"description": "The key, parameter or header that is wrong.", **_TEXT},
                "value": {"description": "What came there, shortened."},
                "expected": {"type": ["string", "null"]},
            },
            "field",
            "value",
            "expected",
        ),
        "examples": [
            {
                "type": TYPE_PREFIX + "value",
                "title": TITLES["value"],
                "status": 422,
                "detail": "metrics: got 'dealy', expected all, or one or more of delay,loss,jitter,rtt",
                "field": "metrics",
                "value": "dealy",
                "expected": "all, or one or more of delay,loss,jitter,rtt",
            }
        ],
    },
}


def of_profile(profile: Profile) -> dict[str, Any]:
    """The document of one profile."""
    return {
        "limits": [
            {"metric": limit.name, "sense": str(limit.sense), "limit": limit.bound, "source": limit.source}
            for limit in profile.limits
        ]
    }


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add what the framework does not know to its OpenAPI document: the schemas of answers, and who may ask."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas.update(_SCHEMAS)
    for name, file in _SCHEMA_FILES.items():
        schemas.update(_of_file(name, file))
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "Over TCP; made by `inpath token new`."}
    }
    # Over the Unix socket the kernel says who asks.
    document["security"] = [{"bearer": []}, {}]
    return document


def _of_file(name: str, file: str) -> dict[str, Any]:
    """A schema of this project, its definitions as `Name.definition`."""
    text = files("schemas").joinpath(file).read_text().replace('"#/$defs/', f'"{_REFERENCE}{name}.')
    schema = json.loads(text)
    for key in ("$schema", "$id"):
        schema.pop(key, None)
    definitions = schema.pop("$defs", {})
    return {name: schema, **{f"{name}.{key}": value for key, value in definitions.items()}}
