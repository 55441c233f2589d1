"""Whether this machine's kernel has ended processes for want of memory. Linux counts them; others tell nothing."""

from contextlib import suppress
from pathlib import Path

COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))
"""Of the machine (proc(5)), and of the container this runs in (cgroups(7), version 2)."""


def n_oom_kills() -> int:
    """Processes ended so far; which ones, the kernel does not say."""
    counts = [0]
    for file in COUNTERS:
        with suppress(OSError, ValueError, IndexError):
            lines = (line.split() for line in file.read_text(encoding="ascii").splitlines())
            counts += [int(words[1]) for words in lines if words[:1] == ["oom_kill"]]
    return max(counts)
