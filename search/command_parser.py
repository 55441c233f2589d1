"""An argument parser that answers wrong words with one sentence and the near miss."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from spaces.errors import near_miss

_KINDS: Mapping[Any, tuple[Callable[[str], Any], str]] = {int: (int, "a whole number"), float: (float, "a number")}


class CommandParser(argparse.ArgumentParser):
    """argparse's, but an option has to be written out, and a complaint is one sentence on stderr, exit code 2."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2 and a sentence."""
        self.exit(2, f"affectune: {message}; '{self.prog} --help' lists the words\n")

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """Like `parse_args`, but an option that no command knows is answered with the one that is meant."""
        settings, unknown = self.parse_known_args(words)
        if unknown:
            parser = self.parser_of(words)
            word = unknown[0].split("=")[0]
            if not word.startswith("-"):
                parser.error(f"one word too many, got {word!r}")
            parser.error(f"option {word} is unknown{near_miss(word, parser.options())}")
        return settings

    def parser_of(self, words: Sequence[str]) -> "CommandParser":
        """The parser of the innermost command that the words name."""
        parser = self
        for word in words:
            parser = parser.commands().get(word, parser)
        return parser

    def commands(self) -> Mapping[str, "CommandParser"]:
        """Name to parser of the commands one level down."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return action.choices
        return {}

    def options(self) -> list[str]:
        """The options of this command, `--help` and the like included."""
        return list(self._option_string_actions)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        if action.type is Path and not arg_string:
            raise argparse.ArgumentError(action, "must name a file or folder, got ''")
        if action.type in _KINDS:
            try:
                return _KINDS[action.type][0](arg_string)
            except ValueError:
                raise argparse.ArgumentError(action, f"must be {_KINDS[action.type][1]}, got {arg_string!r}") from None
        return super()._get_value(action, arg_string)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        name = "/".join(action.option_strings) or action.metavar or action.dest
        choices = [str(choice) for choice in action.choices]
        raise argparse.ArgumentError(None, f"{name} {str(value)!r} is unknown{near_miss(str(value), choices)}")
