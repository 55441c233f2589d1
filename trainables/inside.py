"""Names of files that stay within a folder, whoever wrote them."""

from pathlib import Path, PurePosixPath, PureWindowsPath


def stays_inside(name: str) -> bool:
    """Whether a file's name, taken from a folder, leads to something below that folder. Links are not followed."""
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or PureWindowsPath(name).drive:
        return False
    depth = 0
    for part in path.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return depth > 0


def leads_out(folder: Path) -> Path | None:
    """The first link below a folder whose end is not below it; None where there is none."""
    root = folder.resolve()
    links = (path for path in sorted(folder.rglob("*")) if path.is_symlink())
    return next((link for link in links if not link.resolve().is_relative_to(root)), None)
