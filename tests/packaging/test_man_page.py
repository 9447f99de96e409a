from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

PACKAGING = Path(__file__).parents[2] / "packaging"


def roff() -> str:
    return subprocess.run(
        (sys.executable, PACKAGING / "man_page.py"), capture_output=True, text=True, check=True, timeout=30
    ).stdout


def test_every_command_has_its_section_and_groff_no_complaint() -> None:
    page = roff()
    for name in entry_points(group="inpath.commands").names:
        assert f".SS inpath {name}" in page
    judged = subprocess.run(
        ("groff", "-man", "-Tascii", "-P-cbou", "-ww"),
        input=page,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert judged.stderr == ""
    assert "--config PATH" in judged.stdout
    assert "`" not in judged.stdout


def test_the_locked_requirements_are_those_of_the_command_and_not_of_its_developers() -> None:
    done = subprocess.run(
        (sys.executable, PACKAGING / "locked_requirements.py"), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    names = {line.partition("==")[0] for line in done.stdout.splitlines() if not line.startswith(" ")}
    assert {"click", "netfilterqueue", "sqlalchemy", "mako"} <= names
    assert not names & {"pytest", "mypy", "ruff", "scapy", "hypothesis"}
    assert all(" --hash=sha256:" in entry for entry in done.stdout.split("\n") if entry.startswith(" "))
