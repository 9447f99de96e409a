"""What a reader copies from docs/plugins.md does what the page says."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
import socket
import sys
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prober.plugins.command_metric import CommandMetric, command_metric
from prober.plugins.icmp_echo import PLUGIN
from prober.plugins.plugin import ENTRY_POINT_GROUP, MetricPlugin, Sample, load_plugins
from receiver.server import ReportServer
from schemas.errors import HostError
from schemas.message import MEASUREMENT_PORT, Message
from schemas.metrics import Composition
from tests.namespaces import Namespaces, in_namespace
from tests.prober.delayed_link import ROUND_TRIP_MS, delayed_link, quietest

DOCUMENT = Path(__file__).parents[3] / "docs" / "plugins.md"
EXAMPLE = DOCUMENT.parent / "examples" / "tcp_connect.py"
LOOPBACK = "127.0.0.1"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


def documented_command(name: str, *program: str) -> CommandMetric:
    """The program as the page configures it, with another path and maybe more arguments."""
    tables: dict[str, Any] = {}
    for block in blocks("toml"):
        tables |= tomllib.loads(block).get("plugins", {}).get("commands", {})
    table = tables[name]
    table["composition"] = Composition(table["composition"])
    table["command"] = [*program, *table["command"][1:]]
    return command_metric(name, **table)


@pytest.fixture
def ssh_greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MetricPlugin:
    """The Python plug-in of the page, installed as the page says."""
    (module,) = blocks("python")
    (tmp_path / "ssh_greeting.py").write_text(module)
    project, configuration = (tomllib.loads(block) for block in blocks("toml")[:2])
    entries = project["project"]["entry-points"][ENTRY_POINT_GROUP]
    metadata = tmp_path / "ssh_greeting-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ssh-greeting\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINT_GROUP}]", *lines, ""]))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    (plugin,) = load_plugins(configuration["plugins"]["enabled"])
    monkeypatch.delitem(sys.modules, "ssh_greeting")
    return plugin


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.05)
    writer.write(b"SSH-2.0-test\r\n")
    writer.close()


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail\r\n")
    writer.close()


def measured_by(plugin: Any, serve: Serve) -> Sample:
    async def main() -> Sample:
        server = await asyncio.start_server(serve, LOOPBACK, 0)
        async with server:
            one: MetricPlugin = replace(plugin, port=server.sockets[0].getsockname()[1])
            return await one.measure(LOOPBACK, LOOPBACK)

    return asyncio.run(main())


def test_the_python_plug_in_of_the_page_measures(ssh_greeting: MetricPlugin) -> None:
    sample = measured_by(ssh_greeting, greet)
    assert 50 <= sample.value < 1000
    assert sample.count == 1


def test_the_python_plug_in_of_the_page_fails_on_another_server(ssh_greeting: MetricPlugin) -> None:
    with pytest.raises(ValueError, match="expected SSH-"):
        measured_by(ssh_greeting, babble)


@pytest.fixture
def ping_least(tmp_path: Path) -> CommandMetric:
    """The shell program of the page, configured as the page says."""
    (script,) = blocks("sh")
    program = tmp_path / "ping_least"
    program.write_text(script)
    program.chmod(0o755)
    return documented_command("ping-least", str(program))


@pytest.mark.netns
def test_the_shell_program_of_the_page_measures_and_fails_when_nobody_answers(
    ping_least: CommandMetric, namespaces: Namespaces
) -> None:
    near, far = namespaces.chain("near", "far")
    with in_namespace(near.name):
        sample = asyncio.run(ping_least.measure(near.addresses[0], far.addresses[0]))
    assert sample.count == 3
    assert 0 < sample.value < 20
    far.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all")
    with in_namespace(near.name), pytest.raises(HostError, match="got 'exit code 1: "):
        asyncio.run(ping_least.measure(near.addresses[0], far.addresses[0]))


def test_the_shipped_plug_in_is_what_the_page_says() -> None:
    assert f'enabled = ["{PLUGIN.metric.name}"]' in blocks("toml")[3]
    assert (PLUGIN.interval_s, PLUGIN.metric.composition) == (30, Composition.SUM)


def tcp_connect(port: int = MEASUREMENT_PORT) -> CommandMetric:
    one = documented_command("tcp-connect", sys.executable, str(EXAMPLE))
    return replace(one, command=(*one.command, str(port)))


def test_the_example_can_be_executed() -> None:
    assert os.access(EXAMPLE, os.X_OK)
    assert EXAMPLE.read_text().startswith("#!/usr/bin/env python3\n")


def test_the_connect_time_of_a_real_report_server_is_measured_without_a_word_in_its_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def on_report(message: Message, final: bool) -> bool:
        raise AssertionError("nobody sent a report")

    async def main() -> Sample:
        server = ReportServer(LOOPBACK, 0, on_report)
        await server.start()
        try:
            return await tcp_connect(server.port).measure(LOOPBACK, LOOPBACK)
        finally:
            await server.close()

    sample = asyncio.run(main())
    assert sample.count == 3
    assert 0 < sample.value < 500
    assert sample.low <= sample.value <= sample.high
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


@pytest.mark.netns
def test_the_connect_time_over_a_slow_link_is_its_round_trip_time(namespaces: Namespaces, tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def main() -> Sample:
        with in_namespace(far.name):
            server = await asyncio.start_server(hang_up, far.addresses[0], MEASUREMENT_PORT)
        async with server:
            with in_namespace(near.name):
                return await tcp_connect().measure(near.addresses[0], far.addresses[0])

    with delayed_link(namespaces, tmp_path) as (near, far):
        assert quietest(lambda: asyncio.run(main())).value == pytest.approx(ROUND_TRIP_MS, abs=2)


def test_a_port_where_nobody_listens_gives_no_connect_time() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))  # bound, but not listening
        with pytest.raises(HostError, match=r"exit code 1: curl ended with 7: .*"):
            asyncio.run(tcp_connect(taken.getsockname()[1]).measure(LOOPBACK, LOOPBACK))


def test_an_address_that_is_not_ours_gives_no_connect_time() -> None:
    with pytest.raises(HostError, match="curl ended with 45: "):
        asyncio.run(tcp_connect().measure("192.0.2.1", LOOPBACK))


@pytest.mark.netns
def test_a_neighbor_that_does_not_answer_gives_no_connect_time(namespaces: Namespaces) -> None:
    near, far = namespaces.chain("near", "far")
    far.run("ip", "route", "add", "blackhole", f"{near.addresses[0]}/32")
    with in_namespace(near.name), pytest.raises(HostError, match="curl ended with 28: "):
        asyncio.run(tcp_connect().measure(near.addresses[0], far.addresses[0]))
