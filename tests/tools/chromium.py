"""The browser that pages are looked at in, and what is asked of it."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")

CUT_WORDS = """
() => [...document.querySelectorAll('figure svg text')].filter(text => {
    const own = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
    return own.left < all.left - 1 || own.right > all.right + 1 || own.top < all.top - 1 || own.bottom > all.bottom + 1;
}).map(text => text.textContent)
"""
"""Words of a page's figures that reach out of them."""


def find_chromium() -> str | None:
    """Its program; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)
