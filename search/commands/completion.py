"""`affectune completion`: what a shell needs to complete our words."""

import argparse
from typing import Any

_ABOUT = """\
Print a script that lets a shell complete commands, options, files and names of searches:
  bash: affectune completion bash > ~/.local/share/bash-completion/completions/affectune
  zsh:  affectune completion zsh > a folder of $fpath, as _affectune
  fish: affectune completion fish > ~/.config/fish/completions/affectune.fish
"""


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "completion",
        help="a script with which a shell completes our words",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "fish", "zsh"), help="bash, fish or zsh")
    parser.set_defaults(run=run_completion)


def run_completion(args: argparse.Namespace) -> int:
    """Print the script."""
    from search.completion import completion_script

    print(completion_script(args.parser, args.shell), end="")
    return 0
