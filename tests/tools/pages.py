"""Code blocks and commands of the README and the pages under docs/."""

import re
from pathlib import Path


def blocks_of(page: Path, *languages: str) -> list[str]:
    """The page's code blocks in these languages; "" is one that names none."""
    fenced = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [block for language, block in fenced if language in languages]


def commands_of(page: Path) -> list[str]:
    """What stands behind a `$ ` in the page's console blocks, and commands of ours in those that no test types.

    A line that ends in a backslash goes on in the next.
    """
    typed = [line.removeprefix("$ ") for line in _lines_of(page, "console") if line.startswith("$ ")]
    return typed + [line for line in _lines_of(page, "sh", "") if line.startswith("affectune ")]


def _lines_of(page: Path, *languages: str) -> list[str]:
    joined = (re.sub(r"\\\n\s*", "", block) for block in blocks_of(page, *languages))
    return [line for block in joined for line in block.splitlines()]
