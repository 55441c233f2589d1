"""Outputs are written beside their place and renamed into it, so that nobody ever sees half of one."""

import errno
import glob
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spaces.errors import AffectuneError, OutputError, is_text, shown

PARTIAL = ".partial"
_HOST = re.sub(r"[^\w-]", "-", socket.gethostname())
_OWNER = re.compile(r"\.(?P<host>[\w-]+)~(?P<pid>\d+)(\.\w+)?\.partial$")


def check_new_folder(out: Path) -> None:
    """Raise OutputError where `out` is a file or a folder that already holds something, or its path is no text."""
    if not is_text(out.absolute()):
        raise OutputError(f"path of an output folder must be UTF-8, got {shown(str(out))}; choose another")
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise OutputError(f"output folder must be new or empty, got {out}; choose another or remove it")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when the block ends well and vanishes when it does not.

    Raises:
        OutputError: `out` already holds something, can't be created, or the disk is full.
    """
    check_new_folder(out)
    with staging_folder(out) as staging:
        yield staging
        if out.is_dir():
            out.rmdir()
        staging.rename(out)


@contextmanager
def staging_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out`, which is gone when the block ends. What killed processes left of theirs is swept.

    Raises:
        OutputError: it can't be made, or the disk is full.
    """
    with _disk_errors(out), _places_without_folders(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        sweep_leftovers(out.parent, out.name)
        prefix = f".{out.name}.{_owner()}."
        staging = Path(tempfile.mkdtemp(prefix=prefix, suffix=PARTIAL, dir=out.parent))
        staging.chmod(0o755)
    try:
        with _disk_errors(out):
            yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write, which replaces `path` when the block ends well and vanishes when it does not.

    Raises:
        OutputError: it can't be written, or the disk is full.
    """
    staging = path.with_name(f".{path.name}.{_owner()}{PARTIAL}")
    try:
        with _disk_errors(path):
            with _places_without_folders(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            yield staging
            os.replace(staging, path)
    except BaseException:
        with suppress(OSError):  # its folder may never have been there; the first error is the one to tell
            staging.unlink(missing_ok=True)
        raise


def sweep_leftovers(folder: Path, name: str = "", *, everywhere: bool = False) -> None:
    """Remove what processes of this machine that were killed had half written.

    Args:
        folder: where to look.
        name: of the output; of any, if empty.
        everywhere: whether to look in the folders below too.
    """
    pattern = f".{glob.escape(name)}.*{PARTIAL}" if name else f".*{PARTIAL}"
    for path in list(folder.rglob(pattern) if everywhere else folder.glob(pattern)):
        if not _is_left_over(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _owner() -> str:
    """This process, as names of what it has not finished say it."""
    return f"{_HOST}~{os.getpid()}"


def _is_left_over(path: Path) -> bool:
    owner = _OWNER.search(path.name)
    if owner is None or owner["host"] != _HOST:
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


def write_text(path: Path, text: str) -> None:
    """Replace a small text file as a whole."""
    with new_file(path) as staging:
        staging.write_text(text, encoding="utf-8")


_OUT_OF_OUR_HANDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EIO: "the disk can't be read or written",
    errno.ESTALE: "the shared folder is not there any more",
    errno.ETIMEDOUT: "the shared folder does not answer",
    errno.EACCES: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EEXIST: "a file stands where a folder should be",
    errno.EISDIR: "a folder stands where a file should be",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EPERM: "permission denied",
    errno.EFBIG: "the file is too large",
}

_TOLD_IN_TEXT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE)
"""What writers that are no Python (safetensors, PyTorch, MLflow's copies) say in errors of their own."""


@contextmanager
def _places_without_folders(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:  # /proc and the like
        raise OutputError(f"no folder can be made there, could not write {path}; choose another place") from error


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except AffectuneError:
        raise
    except Exception as error:
        number = _errno_of(error)
        if number is None:
            raise
        raise disk_error(number, f"could not write {path}; nothing was left there") from error


def disk_error(number: int, what: str) -> OutputError:
    """What the disk said, and what could not be done for it, as a sentence; `errno` is the system's number.

    Args:
        number: the system's, of an error of a disk.
        what: `could not` and so on, with the path.
    """
    error = OutputError(f"{_OUT_OF_OUR_HANDS.get(number, os.strerror(number))}, {what}")
    error.errno = number
    return error


def _errno_of(error: Exception) -> int | None:
    """The system's number, where a disk is what an error is about; whichever writer raised it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _OUT_OF_OUR_HANDS else None
    told = f"{error} {error.__context__}"
    return next((number for number in _TOLD_IN_TEXT if os.strerror(number) in told), None)
