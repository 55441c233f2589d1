"""The pages under docs/ are built without a warning, and quote what the program really says."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@cache
def said_by_the_program() -> str:
    """All strings of the program, without what is put into them."""
    files = [*ROOT.glob("s*/**/*.py"), *ROOT.glob("trainables/**/*.py"), ROOT / ".ci" / "setup"]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    return re.sub(r'"\s*f?"|\{[^{}]*\}', "", text)


def quotes_of(page: Path) -> list[str]:
    """What stands between backticks in the first column of a table whose heading is "you see"."""
    tables = re.findall(r"^\| you see .*\n\|[-|]+\|\n((?:\|.*\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    rows = [row.split(" | ")[0] for table in tables for row in table.splitlines()]
    return [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("quote", quotes_of(DOCS / "troubleshooting.md"))
def test_quoted_sentence_is_one_of_the_programs(quote: str) -> None:
    parts = [part.strip() for part in quote.split("...") if len(part.strip()) > 3]

    assert [part for part in parts if part not in said_by_the_program()] == []


def test_troubleshooting_quotes_something() -> None:
    assert len(quotes_of(DOCS / "troubleshooting.md")) > 15


@pytest.mark.slow
def test_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="needs sphinx, myst-parser and furo: make setup")
    words = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path / "site"),
    ]

    built = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)

    assert built.returncode == 0, built.stderr
    pages = {page.stem for page in (tmp_path / "site").glob("*.html")}
    assert {page.stem for page in DOCS.glob("*.md")} <= pages
    assert "launch_search" in (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
