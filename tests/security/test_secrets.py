"""Two points with every kind of secret, at debug level, with all that can go wrong: no secret is ever written."""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.points import point_files, point_pid
from tests.mp.reports.points import authority, certified
from tests.overlay.network import Answer, Network, network, start
from tests.overlay.point_configuration import configure

pytestmark = pytest.mark.netns

PAIR = {
    "nodes": {"a": {"point": True}, "b": {"point": True}},
    "links": [{"a": "a", "b": "b", "delay_ms": 1}],
}
PASSWORD = "pw-" + secrets.token_hex(12)
HTTP_PORT = 49_871


@dataclass(slots=True)
class Told:
    """What programs said, and what they must not."""

    net: Network
    secrets: dict[str, str]
    said: list[str] = field(default_factory=list)

    def inpath(self, *arguments: str, configuration: Path | None = None) -> Answer:
        """The command on node a; all that it says is kept."""
        more = () if configuration is None else ("--config", str(configuration))
        answer = self.net.inpath("a", *arguments, *more)
        self.said += [answer.stdout, answer.stderr]
        return answer

    def starts_with(self, configuration: Path) -> Answer:
        """A second daemon with that file."""
        return self.inpath("mp", "run", configuration=configuration)

    def assert_untold(self, text: str, where: str) -> None:
        for name, secret in self.secrets.items():
            assert secret not in text, f"{name} in {where}"


def forms(name: str, octets: bytes) -> dict[str, str]:
    """How octets may stand in a text."""
    return {
        f"{name} in hexadecimal": octets.hex(),
        f"{name} in base64": base64.b64encode(octets).decode().rstrip("="),
        f"{name} in base64url": base64.urlsafe_b64encode(octets).decode().rstrip("="),
        f"{name} as Python writes it": repr(octets)[2:-1],
    }


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """Keys of STAMP and of messages, a certificate's key, a token, and a database that refuses the password."""
    with network(PAIR) as net:
        stamp, folder = secrets.token_bytes(32), net.lab.directory.node("a")
        tls = certified(folder / "tls", authority(), net.address("a"))
        for node in "ab":
            key = net.lab.directory.node(node) / "stamp.key"
            key.touch(mode=0o600)
            key.write_text(stamp.hex() + "\n")
            changes = {"probe": {"key_file": str(key)}, "log": {"level": "debug"}}
            configure(net, node, changes)
        http = {
            "listen": net.address("a"),
            "port": HTTP_PORT,
            "certificate": str(tls.certificate),
            "key": str(tls.key),
        }
        http["token_file"] = str(folder / "tokens.json")
        store = {"url": f"mysql+pymysql://inpath:{PASSWORD}@127.0.0.1:1/inpath"}
        configure(net, "a", {"http": http, "store": store})
        shared = secrets_of_messages(point_files(net.lab.directory, "a").keys)
        private = "".join(tls.key.read_text().splitlines()[1:-1])
        told = Told(
            net, {"the password": PASSWORD, **forms("the STAMP key", stamp), **shared, "a PEM key": private[:60]}
        )
        token = net.inpath("a", "token", "new", "t", "--scope", "query").stdout.strip()
        told.secrets["the token"] = token[-30:]
        start(net)
        yield told


def secrets_of_messages(folder: Path) -> dict[str, str]:
    """Those of the lab's own keys."""
    found: dict[str, str] = {}
    for path in folder.glob("*.key"):
        (text,) = re.findall(r'secret = "([^"]+)"', path.read_text())
        found[f"the message key {path.stem}"] = text.rstrip("=")
    assert found
    return found


def every_command_line(net: Network) -> Iterator[tuple[str, str]]:
    for node in "ab":
        for pid in net.processes(node):
            path = Path(f"/proc/{pid}/cmdline")
            yield str(path), path.read_bytes().replace(b"\0", b" ").decode()


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("request", "a", "b", "--json"),
    ("request", "a", "b", "--timeout", "0.01"),
    ("mp", "status", "--json"),
    ("keys", "show"),
    ("keys", "show", "--json"),
    ("token", "list"),
    ("results", "list"),
    ("doctor",),
)


def test_no_secret_is_in_logs_command_lines_answers_or_errors(told: Told, tmp_path: Path) -> None:
    net = told.net
    with ThreadPoolExecutor(4) as programs:
        answers = list(programs.map(lambda arguments: told.inpath(*arguments), COMMANDS))
        refused = list(programs.map(told.starts_with, mistakes(net, tmp_path)))
    assert answers[0].exit_code in (0, 5), answers[0].stderr
    assert [answer.exit_code for answer in refused] == [2] * len(refused), refused
    url = f"https://{net.address('a')}:{HTTP_PORT}/v1/point"
    for header in (f"Bearer {told.secrets['the token']}", "Bearer x", f"Basic {PASSWORD}"):
        answer = net.run("a", "curl", "-sk", "-m", "20", "-H", f"Authorization: {header}", url)
        assert "urn:inpath:problem:" in answer.stdout
        told.said.append(answer.stdout)
    pid = point_pid(net.lab.directory, net.lab.addressing, "a")
    assert pid is not None
    os.kill(pid, signal.SIGHUP)
    net.ask("a", "b")
    lines = dict(every_command_line(net))
    assert any("inpath" in line for line in lines.values())
    for where, line in lines.items():
        told.assert_untold(line, where)
    for node in "ab":
        net.lab.stop_point(node)
        log = point_files(net.lab.directory, node).log.read_text()
        assert "level=debug" in log
        told.assert_untold(log, f"the log of {node}")
    assert "127.0.0.1:1" in point_files(net.lab.directory, "a").log.read_text()  # the database is missed by name
    assert len(told.said) > 30
    for text in told.said:
        told.assert_untold(text, text[:80])


def mistakes(net: Network, folder: Path) -> Iterator[Path]:
    """Configurations that are wrong where a secret stands."""
    good = net.configuration("a").read_text()
    key = re.search(r'key_file = "([^"]+)"', good)
    assert key is not None
    spoiled = folder / "spoiled.key"
    spoiled.touch(mode=0o600)
    spoiled.write_text(Path(key[1]).read_text()[:-2] + "x")
    open_key = folder / "open.key"
    shutil.copy(key[1], open_key)
    open_key.chmod(0o644)
    wrong = {
        "a misspelled key": good.replace("url = ", "ulr = ", 1),
        "a misspelled table": good.replace("[store]", "[stroe]", 1),
        "a URL without its scheme": good.replace("mysql+pymysql://", "", 1),
        "another scheme": good.replace("mysql+pymysql://", "postgresql://", 1),
        "no TOML": good.replace("[store]", "[store", 1),
        "a text without end": re.sub(r'(url = ".*)"', r"\1", good, count=1),
        "a key that is none": good.replace(key[1], str(spoiled)),
        "a key for everybody": good.replace(key[1], str(open_key)),
    }
    for name, text in wrong.items():
        assert text != good, name
        file = folder / f"{name}.toml"
        file.write_text(text)
        yield file
