import json
import os
import subprocess
from pathlib import Path

import pytest

from lab import namespaces as lab_namespaces
from lab.impairment import Impairment
from lab.links import (
    LinkKind,
    NetemLinks,
    PlannedLink,
    UserSpaceLinks,
    detect_link_kind,
    finish_checksums,
    last_line,
    link_driver,
    netem_commands,
    veth_command,
)
from lab.user_link import Endpoint
from schemas.errors import HostError
from tests.namespaces import Namespaces

ENDS = {"a": Endpoint("ns1", "to-b", "02:00:00:00:00:01"), "b": Endpoint("ns2", "to-a", None)}


def test_netem_gets_delay_jitter_loss_and_a_queue_that_holds_what_is_on_its_way() -> None:
    impairment = Impairment(delay_ms=12.5, jitter_ms=0.25, loss_ratio=0.015)
    assert netem_commands("to-b", impairment) == [
        "qdisc replace dev to-b root handle 1: netem limit 20000 delay 12500.000us 250.000us loss 1.5%"
    ]


def test_a_limited_rate_is_a_token_bucket_below_netem() -> None:
    _, tbf = netem_commands("to-b", Impairment(rate_mbit=2.5))
    rate = "rate 2500.000kbit burst 15140 latency 50ms"
    assert tbf == f"qdisc replace dev to-b parent 1: handle 2: tbf {rate}"


def test_a_perfect_link_is_netem_that_does_nothing() -> None:
    assert netem_commands("x", Impairment()) == ["qdisc replace dev x root handle 1: netem limit 20000"]


def test_a_netem_link_that_is_down_loses_everything() -> None:
    (command,) = netem_commands("x", Impairment(up=False))
    assert command.endswith(" loss 100%")


def test_a_veth_pair_is_made_with_both_ends_in_their_namespaces() -> None:
    link = PlannedLink(link_id="a--b", **ENDS, a_to_b=Impairment(), b_to_a=Impairment(), mtu_octets=1400)
    assert veth_command(link) == (
        "link add to-b netns ns1 address 02:00:00:00:00:01 mtu 1400 type veth peer name to-a netns ns2 mtu 1400"
    )


def test_each_kind_has_its_driver(tmp_path: Path) -> None:
    assert isinstance(link_driver(LinkKind.NETEM, tmp_path / "x"), NetemLinks)
    assert isinstance(link_driver(LinkKind.USER_SPACE, tmp_path / "x"), UserSpaceLinks)


def test_the_last_line_of_a_log_is_the_last_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == "it said nothing"
    log.write_text("first\nlast\n\n")
    assert last_line(log) == "last"


@pytest.mark.netns
def test_the_kernel_is_asked_for_netem_and_nothing_stays() -> None:
    name = f"t{os.getpid()}.probe"
    kind = detect_link_kind(name)
    tried = subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "help"], capture_output=True)
    assert kind in LinkKind
    assert tried.returncode != 0
    assert name not in lab_namespaces.existing()


@pytest.mark.netns
def test_a_veth_finishes_its_checksums_when_told(namespaces: Namespaces) -> None:
    left, right = namespaces.make("left"), namespaces.make("right")
    link = PlannedLink(
        link_id="x",
        a=Endpoint(left.name, "to-right"),
        b=Endpoint(right.name, "to-left"),
        a_to_b=Impairment(),
        b_to_a=Impairment(),
        mtu_octets=9000,
    )
    lab_namespaces.run_batch("ip", [veth_command(link)])
    for namespace, interface in ((left, "to-right"), (right, "to-left")):
        assert json.loads(namespace.run("ip", "-j", "link", "show", interface))[0]["mtu"] == 9000
    lab_namespaces.inside(left.name, lambda: finish_checksums("to-right"))
    assert json.loads(left.run("ip", "-j", "link", "show", "to-right"))[0]["ifname"] == "to-right"
    with pytest.raises(HostError, match="cannot turn off checksum offload of nothing"):
        lab_namespaces.inside(left.name, lambda: finish_checksums("nothing"))
