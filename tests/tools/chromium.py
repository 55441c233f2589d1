"""The browser that pages are looked at in."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Its program; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)
