from pathlib import Path

import pytest

from search.command_parser import CommandParser


@pytest.fixture
def parser() -> CommandParser:
    parser = CommandParser(prog="affectune")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    search = commands.add_parser("search")
    search.add_argument("--trials", type=int)
    search.add_argument("--lr", type=float)
    search.add_argument("--out", type=Path)
    search.add_argument("--on-bad", choices=["fail", "skip"])
    data = commands.add_parser("data").add_subparsers(metavar="ACTION", dest="action")
    data.add_parser("show")
    return parser


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["serch"], "COMMAND 'serch' is unknown; did you mean 'search'"),
        (["data", "shwo"], "ACTION 'shwo' is unknown; did you mean 'show'"),
        (["search", "--trails", "4"], "option --trails is unknown; did you mean '--trials'"),
        (["search", "--trail=4"], "option --trail is unknown; did you mean '--trials'"),
        (["search", "--on-bad", "skp"], "--on-bad 'skp' is unknown; did you mean 'skip'"),
        (["search", "--trials", "many"], "argument --trials: must be a whole number, got 'many'"),
        (["search", "--lr", "big"], "argument --lr: must be a number, got 'big'"),
        (["search", "--out", ""], "argument --out: must name a file or folder, got ''"),
        (["data", "show", "faces"], "one word too many, got 'faces'"),
    ],
    ids=[
        "command",
        "action",
        "option",
        "abbreviated_option",
        "choice",
        "whole_number",
        "number",
        "empty_path",
        "extra_word",
    ],
)
def test_parser_answers_wrong_words_with_one_sentence(
    parser: CommandParser, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as leave:
        parser.parse_words(words)

    assert leave.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"affectune: {sentence}; 'affectune")
    assert printed.count("\n") == 1


def test_parser_names_the_help_of_the_command_that_was_meant(
    parser: CommandParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_words(["search", "--trails", "4"])

    assert "'affectune search --help'" in capsys.readouterr().err


def test_parser_reads_the_words_of_a_command(parser: CommandParser) -> None:
    settings = parser.parse_words(["search", "--trials", "4"])

    assert (settings.command, settings.trials) == ("search", 4)
