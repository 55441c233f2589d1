"""The command line: reads the words, runs the command, and turns what went wrong into one sentence.

The commands stand in search/commands, one file for each group. Nothing heavy is imported before a command runs, so
that `--help` answers at once.
"""

import argparse
import atexit
import configparser
import errno
import gc
import importlib.util
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.checkout import CHECKOUT
from search.interrupts import INTERRUPTED_CODE, polite_kill
from search.privacy import keep_private

if TYPE_CHECKING:
    from search.command_parser import CommandParser

_QUIET = {"RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0"}

_DISK_ERRORS = {
    errno.EACCES: "permission denied",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOSPC: "the disk is full",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
}

_INTERRUPTED = "stopped by Ctrl-C or SIGTERM; what was finished until then is kept"

_EPILOG = """\
exit codes: 0 done, 1 the work failed, 2 the words were wrong, 130 stopped by Ctrl-C or SIGTERM
environment: AFFECTUNE_STORAGE says where searches are kept (default: runs/ here);
  AFFECTUNE_CACHE where embeddings are kept (~/.cache/affectune; off: nowhere), AFFECTUNE_CACHE_GB up to which size;
  AFFECTUNE_TRACEBACK=1 shows where an error came from
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; the process's own when omitted.

    Returns:
        The exit code: 0, 1 (the work failed), 2 (wrong words) or 130 (Ctrl-C).
    """
    other = _other_spaces()
    if other:
        return _complain(
            f"package 'spaces' must be {CHECKOUT / 'spaces'}, got {other}; another project installs one of that name: "
            f"remove it ('{sys.executable} -m pip uninstall spaces') or set up an environment of its own ('make setup')"
        )
    _collect_rarely()
    keep_private()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    words = list(sys.argv[1:] if argv is None else argv)
    with polite_kill():
        return _guarded(lambda: _run(words))


def _collect_rarely() -> None:
    """Python looks for garbage less often, and not again at the end.

    With PyTorch, timm and Ray there are a million objects, hardly one of them garbage: looking through them took a
    quarter of the time of all imports, and 2 s after the last word was printed.
    """
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)


def build_parser() -> "CommandParser":
    """The parser of all commands. Each leaves its function in `run`: arguments in, exit code out."""
    from search.command_parser import CommandParser
    from search.commands import (
        cache,
        completion,
        data,
        demo,
        final,
        launch,
        model,
        report,
        reproduce,
        spaces,
        status,
        tools,
    )

    parser = CommandParser(
        prog="affectune",
        description="Search for the best facial-expression classifier and export it as an ensemble.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"affectune {version()}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for module in (demo, data, spaces, launch, status, final, report, model, reproduce, cache, tools, completion):
        module.register(subparsers)
    return parser


def version() -> str:
    """The version that setup.cfg of this checkout names."""
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    return metadata.get("metadata", "version", fallback="unknown")


def _run(words: list[str]) -> int:
    parser = build_parser()
    try:
        args = parser.parse_words(words)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0
    if "run" not in args:
        parser.parser_of(words).print_help()
        return 2 if words else 0
    args.parser = parser
    code: int = args.run(args)
    sys.stdout.flush()
    return code


def _guarded(run: Callable[[], int]) -> int:
    from spaces.errors import AffectuneError

    try:
        return run()
    except AffectuneError as error:
        return _complain(_sentence(error), code=error.exit_code, error=error)
    except KeyboardInterrupt:
        return _complain(_INTERRUPTED, code=INTERRUPTED_CODE)
    except BrokenPipeError:
        # Whoever read our output has left; Python must not try to flush it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        return _complain("memory is used up; take fewer trials at once or smaller batches", error=error)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            return _complain_of_bug(error)
        where = f": {error.filename}" if error.filename else ""
        return _complain(_DISK_ERRORS[error.errno] + where, error=error)
    except Exception as error:
        if _is_interrupt(error):
            return _complain(_INTERRUPTED, code=INTERRUPTED_CODE)
        return _complain_of_bug(error)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether a Ctrl-C is behind it: one that falls into an import is wrapped in other errors by Python."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _sentence(error: BaseException) -> str:
    # Ray hands an error of a worker over as a copy whose text is the worker's whole traceback.
    original = getattr(error, "cause", None)
    return " ".join(str(original if isinstance(original, Exception) else error).split())


def _complain(sentence: str, *, code: int = 1, error: BaseException | None = None) -> int:
    if error is not None and os.environ.get("AFFECTUNE_TRACEBACK", "0") not in ("", "0"):
        traceback.print_exception(error)
    print(f"affectune: {sentence}", file=sys.stderr)
    return code


def _complain_of_bug(error: Exception) -> int:
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="affectune-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            log.writelines(traceback.format_exception(error))
        where = f"the traceback is in {log.name}"
    except OSError:
        where = "AFFECTUNE_TRACEBACK=1 shows the traceback"
    return _complain(f"the work failed where nobody expected it to, {what}; {where}", error=error)


def _other_spaces() -> str | None:
    """Where a foreign package `spaces` would be imported from; None where ours would."""
    found = importlib.util.find_spec("spaces")
    origin = found.origin if found else None
    if origin and Path(origin).resolve().parent == CHECKOUT / "spaces":
        return None
    return origin or "none"


if __name__ == "__main__":
    sys.exit(main())
