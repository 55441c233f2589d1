"""Takes the screenshots of the pages, of a finished search with its ensemble: `python docs/screens.py STORAGE NAME`.

Only of generated faces: what is shown here is published. Needs playwright and Chromium.
"""

import argparse
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parent / "tests" / "tools")]

from chromium import find_chromium  # noqa: E402

from search.report.job import write_report  # noqa: E402
from search.storage import open_folder  # noqa: E402
from search.tracking_ui import search_links, tracking_ui  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Page

N_COLOURS = 128
DRAWN_MS = 6000
"""After which MLflow's pages have drawn."""


def main() -> None:
    """Take all."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("storage", type=Path)
    parser.add_argument("name")
    words = parser.parse_args()
    folder = open_folder(words.storage, words.name)
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 760})
        page.goto(write_report(folder).as_uri())
        _take(page, "report", height=570)
        database = words.storage.absolute() / "mlflow.db"
        port = _free_port()
        with tracking_ui(database, port=port):
            links = search_links(words.storage, f"sqlite:///{database}", base=f"http://127.0.0.1:{port}")
            page.goto(links[words.name])
            page.wait_for_timeout(DRAWN_MS)
            for closing in page.get_by_role("button", name="Close").all():  # of what MLflow opens for itself
                closing.click()
            page.wait_for_timeout(DRAWN_MS // 3)
            _take(page, "mlflow")
        browser.close()


def _take(page: "Page", name: str, *, height: int | None = None) -> None:
    file = HERE / "pictures" / f"{name}.png"
    width, whole = (page.viewport_size or {}).values()
    page.screenshot(path=file, clip={"x": 0, "y": 0, "width": width, "height": height or whole})
    Image.open(file).convert("RGB").quantize(N_COLOURS).save(file, optimize=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
