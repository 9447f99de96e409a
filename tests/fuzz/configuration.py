"""Configuration files."""

from __future__ import annotations

import re

from mp.config import configuration_from_toml, example_text
from schemas.errors import ConfigurationError
from tests.fuzz.target import Target


def one_input(data: bytes) -> None:
    """A configuration, or an error of a few lines that names the place."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return  # `load_configuration` refuses the file
    try:
        configuration_from_toml(text)
    except ConfigurationError as error:
        assert error.field and len(str(error)) < 1000


def seeds() -> list[bytes]:
    """The example, table by table, with every key that it shows."""
    text = re.sub(r"(?m)^# (?=[a-z_0-9-]+ = |\[[a-z.-]+\]$)", "", example_text())
    text = re.sub(r"(?m)^#.*\n", "", text)
    tables = re.split(r"(?m)^(?=\[[a-z]+\]$)", text)
    return [table.encode() for table in tables if table]


_KEYS = sorted({line.split("=")[0].strip() for line in example_text().splitlines() if "=" in line})
WORDS = (
    *(f"{key.lstrip('# ')} = ".encode() for key in _KEYS if re.fullmatch(r"[# a-z_0-9-]{1,60}", key)),
    *(
        b"nan",
        b"inf",
        b"1e400",
        b"-1",
        b"0x7fffffffffffffff",
        b'"""',
        b"'''",
        b"[[",
        b"]]",
        b"1979-05-27",
        b"\\u0000",
    ),
)
TARGET = Target(one_input=one_input, seeds=seeds, words=WORDS, max_bytes=4096)
