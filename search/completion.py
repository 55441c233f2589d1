"""Scripts that let a shell complete our commands, options, files and names of searches. They start no Python."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shtab

from search.command_parser import CommandParser

SHELLS = ("bash", "fish", "zsh")

_SEARCHES = {
    "bash": """
_affectune_searches() {
  local found
  for found in "${AFFECTUNE_STORAGE:-runs}"/*/search.json; do
    [ -e "$found" ] && found="${found%/search.json}" && compgen -W "${found##*/}" -- "$1"
  done
}
""",
    "fish": """
function __affectune_searches
  set -l storage runs
  set -q AFFECTUNE_STORAGE; and set storage $AFFECTUNE_STORAGE
  for found in $storage/*/search.json
    basename (dirname $found)
  end
end
""",
    "zsh": """
_affectune_searches() {
  local -a found
  found=(${AFFECTUNE_STORAGE:-runs}/*/search.json(N:h:t))
  _describe search found
}
""",
}
_NAME_OF_SEARCH = {
    "bash": "_affectune_searches",
    "fish": "(__affectune_searches)",
    "zsh": "_affectune_searches",
}


def completion_script(parser: CommandParser, shell: str) -> str:
    """What a shell has to read to complete our words.

    Args:
        parser: of all commands.
        shell: one of `SHELLS`.
    """
    for action in _actions(parser):
        completes: Any = action
        if action.metavar == "NAME" and action.dest == "name":
            completes.complete = _NAME_OF_SEARCH
        elif action.type is Path:
            completes.complete = shtab.DIRECTORY if "DIR" in str(action.metavar) else shtab.FILE
    return str(shtab.complete(parser, shell, preamble=_SEARCHES[shell]))


def _actions(parser: CommandParser) -> Iterator[argparse.Action]:
    """Of all commands."""
    yield from parser._actions
    for child in parser.commands().values():
        yield from _actions(child)
