"""How much memory some processes take together, as if no other program had anything in common with them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) \S+ (\d+)\s*(.*)$")
_FIELD = re.compile(r"^(Rss|Pss|Anonymous):\s+(\d+) kB$")
_END = "0-0 - 0 - 0"

_Mapping = tuple[str, str, str]
"""Path, inode and offset of what is mapped; the inode is 0 for memory without a file."""


def memory_bytes(pids: Iterable[int]) -> int:
    """Memory of processes that belong together.

    What a process has written itself counts for each (shared with a sibling after a fork: by its share); a page of
    a file counts once, however many of the processes have it, and also when other programs have it, unlike PSS.

    Args:
        pids: one that has just ended counts nothing.
    """
    own_kb = 0
    file_kb: dict[_Mapping, int] = defaultdict(int)
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for mapping, fields in _mappings(text):
            if mapping[1] == "0":
                own_kb += fields["Pss"]
            else:
                own_kb += fields["Anonymous"]
                file_kb[mapping] = max(file_kb[mapping], fields["Rss"] - fields["Anonymous"])
    return 1024 * (own_kb + sum(file_kb.values()))


def _mappings(text: str) -> Iterator[tuple[_Mapping, dict[str, int]]]:
    """Each mapping with its sizes in kB (proc_pid_smaps(5))."""
    mapping, fields = ("", "", ""), dict[str, int]()
    for line in [*text.splitlines(), _END]:
        if found := _FIELD.match(line):
            fields[found[1]] = int(found[2])
        elif found := _MAPPING.match(line):
            if fields:
                yield mapping, fields
            mapping, fields = (found[3], found[2], found[1]), {}
