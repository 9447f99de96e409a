"""A copy of this machine that forgets: an overlay on its root file system, in a mount namespace of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND_LIMIT_S = 120

_SETUP = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/run"
mount -t tmpfs tmpfs "$1/root/tmp"
mkdir "$1/root/packages"
mount --bind "$2" "$1/root/packages"
echo ready
read -r _ || true
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is installed here is gone at the end, and nothing of it was ever on the real machine."""

    pid: int
    """A process inside its mount namespace."""
    directory: Path

    def command(self, *words: str, network: str | None = None) -> tuple[str, ...]:
        """How the words are run inside, in the given network namespace or the usual one."""
        enter = ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt"]
        if network is not None:
            enter.append(f"--net=/run/netns/{network}")
        return (*enter, "chroot", str(self.directory / "root"), *words)

    def run(self, *words: str, network: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its exit code is the caller's to judge."""
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        return subprocess.run(
            self.command(*words, network=network),
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            env=environment,
        )

    def output(self, *words: str) -> str:
        """What a command prints that must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def left(self, name: str) -> Sequence[str]:
        """Paths with this name that are there and on the real machine are not, or are others."""
        upper = self.directory / "upper"  # where a character device stands for a file that was removed
        look = ("find", str(upper), "-name", name, "!", "-type", "c", "-printf", "/%P\\n")
        done = subprocess.run(
            ("nsenter", f"--mount=/proc/{self.pid}/ns/mnt", *look), capture_output=True, text=True, check=True
        )
        return sorted(done.stdout.splitlines())


@contextmanager
def machine(directory: Path, packages: Path) -> Iterator[Machine]:
    """A machine that sees `packages` as /packages."""
    holder = subprocess.Popen(
        (
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            _SETUP,
            "sh",
            str(directory),
            str(packages),
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:  # the end of its input ends it, and its mounts with it
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        yield Machine(holder.pid, directory)
