from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

INPATH = Path(sys.executable).with_name("inpath")


def run(*arguments: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "INPATH_CONFIG": str(config)} if config else None
    return subprocess.run([INPATH, *arguments], capture_output=True, text=True, timeout=30, env=environment)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "inpath.toml"
    path.write_text('[names]\nborder-1 = "127.0.0.2"\nborder-2 = "127.0.0.3"\n[service]\nport = 9\n')
    return path


def test_help_names_every_registered_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in ("lab", "mp", "request"):
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("request", "border-1", "border-3"), 2, "destination: got 'border-3', expected"),
        (("request", "border-1", "border-1"), 2, "destination: got 'border-1', expected another point"),
        (
            ("request", "border-1", "border-2", "--metrics", "dealy"),
            2,
            "metrics: got 'dealy', expected all, or one or more of",
        ),
        (("request", "border-1", "border-2", "--timeout", "-1"), 2, "timeout: got -1"),
        (("request", "border-1", "border-2", "--timeout", "nan"), 2, "timeout: got nan"),
        (("request", "border-1", "border-2", "--max-age", "1e9"), 2, "max-age: got"),
        (
            ("request", "border-1", "border-2"),
            1,
            "service: got 127.0.0.2 tcp port 9, expected a measurement point there",
        ),
        (("mp", "run"), 2, "point: got None, expected a table [point]"),
        (("mp", "status"), 1, "expected a measurement point there"),
    ],
)
def test_a_mistake_is_one_clear_line_and_its_exit_code(
    config: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    done = run(*arguments, config=config)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert done.stderr.startswith("inpath: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_missing_configuration_file_is_named() -> None:
    done = run("mp", "run", "--config", "/nonexistent/inpath.toml")
    assert done.returncode == 2
    assert "config: got '/nonexistent/inpath.toml', expected a readable file" in done.stderr


def test_the_example_configuration_is_printed_as_it_is(tmp_path: Path) -> None:
    done = run("mp", "example-config")
    assert done.returncode == 0
    (tmp_path / "example.toml").write_text(done.stdout)
    assert json.dumps(done.stdout).count("address") > 2
    refused = run("mp", "run", "--config", str(tmp_path / "example.toml"))
    assert refused.returncode == 2
    assert "point.address: got '192.0.2.1', expected one of this host's" in refused.stderr
