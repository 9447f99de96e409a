"""Print the part of requirements.lock that the installed command needs to run, hashes and all.

Run it by the interpreter of .venv, where everything of the lock is installed: its metadata tell what needs what.
Arguments are names of optional parts of inpath to be included.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parents[1] / "requirements.lock"


def entries(lock: str) -> dict[str, str]:
    """The entries of a lock by name: a line that begins with a name, and the indented ones after it."""
    found = re.finditer(r"(?m)^([A-Za-z0-9._-]+)==.*\n(?:[ \t].*\n)*", lock)
    return {canonicalize_name(entry[1]): entry[0] for entry in found}


def needed(name: str, extras: Iterable[str] = ()) -> Iterator[tuple[str, frozenset[str]]]:
    """What a package needs here, each with the extras that are wanted of it."""
    for text in requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def closure(extras: Iterable[str]) -> set[str]:
    """Names of all packages that inpath needs, and those need."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [("inpath", frozenset(extras))]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting.extend(needed(*one))
    return {name for name, _ in seen} - {"inpath"}


def main() -> None:
    """Write the entries to standard output."""
    lock = entries(LOCK.read_text())
    try:
        names = closure(sys.argv[1:])
    except PackageNotFoundError as error:
        sys.exit(f"{error.name} is not installed in {sys.prefix}")
    missing = sorted(names - lock.keys())
    if missing:
        sys.exit(f"{LOCK.name} lacks {', '.join(missing)}: run scripts/lock")
    sys.stdout.writelines(lock[name] for name in sorted(names))


if __name__ == "__main__":
    main()
