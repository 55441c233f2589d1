import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search import cli
from search.command_parser import CommandParser
from spaces.errors import DataError, SpaceError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ["albumentations", "cv2", "mlflow", "numpy", "optuna", "pandas", "pyarrow", "ray", "sklearn", "timm", "torch"]


def all_commands(parser: CommandParser, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command and action, e.g. ("data", "show")."""
    below = [found for name, child in parser.commands().items() for found in all_commands(child, (*words, name))]
    return [words, *below]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], int]:
    """Runs a function as the command `affectune work`; returns the exit code."""

    def run(work: Callable[[], int]) -> int:
        parser = CommandParser(prog="affectune")
        commands = parser.add_subparsers(dest="command")
        commands.add_parser("work").set_defaults(run=lambda args: work())
        monkeypatch.setattr(cli, "build_parser", lambda: parser)
        return cli.main(["work"])

    return run


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (DataError("image could not be read"), 1, "affectune: image could not be read\n"),
        (SpaceError("low must be below high"), 2, "affectune: low must be below high\n"),
        (DataError("two\nlines"), 1, "affectune: two lines\n"),
        (KeyboardInterrupt(), 130, "affectune: stopped by Ctrl-C or SIGTERM; what was finished until then is kept\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x.arrow"), 1, "affectune: the disk is full: x.arrow\n"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), 1, "affectune: the name is too long: x\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 1, "affectune: permission denied: /root/x\n"),
        (MemoryError(), 1, "affectune: memory is used up; take fewer trials at once or smaller batches\n"),
    ],
    ids=["work_failed", "wrong_words", "one_line", "ctrl_c", "full_disk", "long_name", "permission", "memory"],
)
def test_main_says_what_went_wrong_in_one_sentence(
    command: Callable[[Callable[[], int]], int],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    printed: str,
) -> None:
    left_with = command(raising(error))

    assert left_with == code
    assert capsys.readouterr().err == printed


def test_main_is_ended_by_a_polite_kill_as_by_ctrl_c(
    command: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    def killed() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    before = signal.getsignal(signal.SIGTERM)

    assert command(killed) == 130
    assert "what was finished until then is kept" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_main_writes_the_traceback_of_an_unexpected_error_to_a_file(
    command: Callable[[Callable[[], int]], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    code = command(raising(ZeroDivisionError("division by zero")))

    (log,) = tmp_path.glob("affectune-*.log")
    assert code == 1
    assert capsys.readouterr().err == (
        "affectune: the work failed where nobody expected it to, ZeroDivisionError: division by zero; "
        f"the traceback is in {log}\n"
    )
    assert "Traceback (most recent call last)" in log.read_text()


def test_main_shows_the_traceback_when_asked_to(
    command: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_TRACEBACK", "1")

    command(raising(DataError("image could not be read")))

    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_main_takes_the_sentence_of_a_workers_error_from_its_cause(
    command: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    error = DataError("ray::train() (pid=1)\n  File ...")
    error.cause = DataError("image could not be read")  # type: ignore[attr-defined]

    command(raising(error))

    assert capsys.readouterr().err == "affectune: image could not be read\n"


def test_main_passes_the_commands_exit_code_on(command: Callable[[Callable[[], int]], int]) -> None:
    assert command(lambda: 0) == 0
    assert command(lambda: 1) == 1


def test_main_shows_the_help_when_no_command_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "commands:" in capsys.readouterr().out


def test_main_offers_the_near_miss_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serach"]) == 2
    assert "COMMAND 'serach' is unknown; did you mean 'search'" in capsys.readouterr().err


def test_main_names_the_version_of_the_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"affectune {cli.version()}\n"
    assert cli.version()[0].isdigit()


def test_main_stops_when_another_package_of_the_name_spaces_is_imported_instead_of_ours(tmp_path: Path) -> None:
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    ended = subprocess.run(
        [sys.executable, "-c", "import sys; from search.cli import main; sys.exit(main(['--version']))"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"affectune: package 'spaces' must be {ROOT / 'spaces'}, got {tmp_path}")
    assert "pip uninstall spaces" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_main_is_silent_when_its_reader_leaves() -> None:
    ended = subprocess.run(
        f"'{sys.executable}' -m search.cli --help | true",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert ended.stderr == ""


HELP_OF_ALL = """
import contextlib, io, json, sys, time
from search.cli import main

took = {}
for words in json.loads(sys.argv[1]):
    start = time.process_time() if took else 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        code = main([*words, "--help"])
    took[" ".join(words)] = (code, time.process_time() - start)
print(json.dumps({"took": took, "loaded": [name for name in json.loads(sys.argv[2]) if name in sys.modules]}))
"""


def test_help_of_every_command_loads_nothing_heavy_and_answers_within_a_second() -> None:
    words = all_commands(cli.build_parser())

    ended = subprocess.run(
        [sys.executable, "-c", HELP_OF_ALL, json.dumps(words), json.dumps(HEAVY)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    answer = json.loads(ended.stdout)
    assert answer["loaded"] == []
    assert {name: code for name, (code, _) in answer["took"].items() if code != 0} == {}
    assert {name: seconds for name, (_, seconds) in answer["took"].items() if seconds > 1} == {}


@pytest.mark.parametrize("words", all_commands(cli.build_parser())[1:], ids="_".join)
def test_command_has_a_function_to_run_or_actions_below_it(words: tuple[str, ...]) -> None:
    parser = cli.build_parser().parser_of(words)

    assert parser.get_default("run") is not None or parser.commands()
