"""The clock of the machine that keeps a folder's files, which is the same for all who write there.

Clocks of machines may differ by minutes. A deadline crosses from one machine to another by way of the storage's clock:
whoever sends it says how far his own is ahead of that, whoever gets it adds how far his is.
"""

import os
import time
from pathlib import Path

SLIGHT_S = 1.0
"""A smaller lead may be an answer that took its time."""


def clock_lead_s(folder: Path) -> float:
    """Seconds by which this machine's clock is ahead of the storage's; less than 0 where it is behind.

    A file server stamps what is touched by its own clock. 0 for what is slight, or can't be told: file systems such as
    Lustre take the stamp from whoever writes.

    Args:
        folder: is touched; nothing is written there. One of the two above it, where it is not there yet.
    """
    there = next((place for place in (folder, *folder.parents[:2]) if place.is_dir()), folder)
    before_s = time.time()
    try:
        os.utime(there)
        stamp_s = there.stat().st_mtime
    except OSError:
        return 0.0
    after_s = time.time()
    lead_s = before_s - stamp_s if stamp_s < before_s else min(after_s - stamp_s, 0.0)
    return lead_s if abs(lead_s) > SLIGHT_S else 0.0


def in_own_time(time_s: float | None, *, lead_s: float, sender_lead_s: float) -> float | None:
    """Another machine's Unix time, as this machine's clock will show it; None stays.

    Args:
        time_s: by the sender's clock.
        lead_s: of this machine's clock, ahead of the storage's.
        sender_lead_s: of the sender's.
    """
    return None if time_s is None else time_s - sender_lead_s + lead_s
