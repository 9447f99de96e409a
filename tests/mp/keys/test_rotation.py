"""Two points change the key that they share, by the steps of docs/keys.md, in any order that the steps allow."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mp.keys.directory import KeyDirectory, read_keyring
from mp.keys.key_text import FileKey
from mp.keys.probe_keys import STAMP_LABEL, ProbeKeys
from mp.keys.settings import Authentication, SecuritySettings
from prober.stamp.authentication import StampKey
from schemas.keyring import HmacKey, KeyIdentity, KeyState

ADDRESS = "10.0.0.1"
MADE, COPIED, ACTIVE, RETIRED = range(4)
"""The steps; a point begins one when all points have finished the one before, that is: have reloaded after it."""
FIRST = HmacKey(KeyIdentity(id="key-0", areas=("west",)), bytes(32))


@dataclass(frozen=True, slots=True)
class Sent:
    key_id: str
    data: bytes
    tag: bytes


class Point:
    """A directory of keys, and a daemon that reads it when it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = KeyDirectory(path)
        self.directory.add(FIRST)
        self.settings = SecuritySettings(
            area="west", areas={}, keys_dir=path, authentication=Authentication.REQUIRED
        )
        self.keyring = read_keyring(self.settings)
        self.probe_keys = ProbeKeys(self.keyring)
        self.session_key = self.probe_key()
        self.done = self.loaded = RETIRED
        """The last step in the directory, and the last one that the daemon has read."""

    def probe_key(self) -> StampKey:
        key = self.probe_keys.toward(ADDRESS)
        assert key is not None
        return key

    def reload(self) -> None:
        self.keyring = read_keyring(self.settings)
        self.probe_keys.changed(self.keyring)
        self.loaded = self.done

    def send(self, data: bytes) -> Sent:
        key = self.keyring.signer(ADDRESS, ADDRESS)
        assert key is not None, "a point has nothing to sign with"
        return Sent(key.id, data, key.tag(data))

    def takes(self, sent: Sent) -> bool:
        key = self.keyring.key(sent.key_id)
        return key is not None and key.verifies(sent.data, sent.tag)


@dataclass(slots=True)
class Rotation:
    number: int = 0
    old: str = FIRST.id
    new: str = ""
    waiting: list[Sent] = field(default_factory=list)


def successor(number: int) -> HmacKey:
    identity = KeyIdentity(id=f"key-{number}", areas=("west",), created_at_ms=number)
    return HmacKey(identity, number.to_bytes(32, "big"))


class KeysChange(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="inpath-keys-"))
        self.points = [Point(self.root / name) for name in "ab"]
        self.rotation = Rotation()

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def all_loaded(self, step: int) -> bool:
        return all(point.loaded == step for point in self.points)

    @rule(which=st.integers(0, 1), reloads=st.booleans())
    def a_point_goes_on(self, which: int, reloads: bool) -> None:
        """The next step of the point, if all have loaded the one before."""
        point, other = self.points[which], self.points[1 - which]
        step = point.done % RETIRED + 1
        if self.all_loaded(RETIRED):
            self.the_successor_is_made(point, other)
        elif other.loaded in (point.done, point.done + 1) and point.loaded == point.done < RETIRED:
            self.take(step, point, other)
        if reloads:
            point.reload()

    def the_successor_is_made(self, point: Point, other: Point) -> None:
        self.rotation.number += 1
        self.rotation.new = point.directory.succeed(self.rotation.old, self.made).id
        other.done = other.loaded = point.loaded = MADE  # there is nothing to load yet
        point.done = COPIED

    def made(self, old: FileKey) -> FileKey:
        assert old.id == self.rotation.old
        return successor(self.rotation.number)

    def take(self, step: int, point: Point, other: Point) -> None:
        match step:
            case 1:  # COPIED
                name = f"{self.rotation.new}.key"
                shutil.copy(other.path / name, point.path / name)
            case 2:  # ACTIVE
                point.directory.activate(self.rotation.new)
            case _:  # RETIRED
                if any(sent.key_id == self.rotation.old for sent in self.rotation.waiting):
                    return
                point.directory.retire(self.rotation.old)
                if other.done == RETIRED:
                    self.rotation.old = self.rotation.new
        point.done = step

    @rule(which=st.integers(0, 1))
    def a_daemon_reads_its_keys(self, which: int) -> None:
        self.points[which].reload()

    @rule(which=st.integers(0, 1), arrive=st.sampled_from([False, False, False, True]))
    def a_message_leaves(self, which: int, arrive: bool) -> None:
        """All that are on their way arrive, or wait longer."""
        self.rotation.waiting.append(self.points[which].send(b"later"))
        if arrive:
            assert all(point.takes(sent) for sent in self.rotation.waiting for point in self.points)
            self.rotation.waiting.clear()

    @invariant()
    def no_message_is_refused(self) -> None:
        for one in self.points:
            assert all(other.takes(one.send(b"now")) for other in self.points)
        for sent in self.rotation.waiting:
            assert all(point.takes(sent) for point in self.points)

    @invariant()
    def no_probe_is_refused(self) -> None:
        one, other = (point.probe_key() for point in self.points)
        assert one.verifies(b"probe", other.tag(b"probe"))
        assert other.verifies(b"probe", one.tag(b"probe"))
        for point in self.points:
            assert point.probe_key() is point.session_key, "a running session would be left with the old key"
            signer = point.keyring.signer(ADDRESS, ADDRESS)
            assert isinstance(signer, HmacKey)
            assert point.session_key.tag(b"probe") == StampKey(signer.derived(STAMP_LABEL)).tag(b"probe")

    @invariant()
    def at_most_two_keys_are_valid(self) -> None:
        for point in self.points:
            active = [key for key in point.directory.read().values() if key.identity.state is KeyState.ACTIVE]
            assert len(active) == 1
            assert len(point.directory.read()) <= 2


KeysChange.TestCase.settings = settings(max_examples=20, stateful_step_count=50, deadline=None)
TestKeysChange = KeysChange.TestCase
