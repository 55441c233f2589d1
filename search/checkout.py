"""The folder that affectune runs from, and how processes of its own find it."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def path_with_checkout() -> str:
    """PYTHONPATH for a child process: the checkout first, then what was there."""
    before = os.environ.get("PYTHONPATH", "")
    if str(CHECKOUT) in before.split(os.pathsep):
        return before
    return os.pathsep.join(filter(None, [str(CHECKOUT), before]))
