"""`affectune spaces`: what comes with affectune, what a space says, and whether it holds."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces.space import SearchSpace


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `spaces`, `spaces show` and `spaces check` to the command line."""
    parser = subparsers.add_parser("spaces", help="list, show and check search spaces", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run_list)
    actions = parser.add_subparsers(metavar="ACTION")

    show = actions.add_parser("show", help="print a space's YAML, to read or to start one's own from")
    show.add_argument("space", metavar="NAME", help="a preset, or a YAML file")
    # Not a default of its own: it would take back a --json that stands before the action.
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")
    show.set_defaults(run=run_show)

    check = actions.add_parser("check", help="check a space, and print its dimensions and the config of trial 0")
    check.add_argument("space", metavar="NAME", help="a preset, or a YAML file")
    check.add_argument(
        "--fix", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="fix a setting over the space"
    )
    check.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")
    check.set_defaults(run=run_check)


def run_list(args: argparse.Namespace) -> int:
    """One line a preset."""
    from spaces.loading import load_space, preset_names

    presets = [load_space(name) for name in preset_names()]
    if args.json:
        rows = [
            {"name": each.name, "description": each.description, "n_parameters": len(each.parameters)}
            for each in presets
        ]
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(each.name) for each in presets)
    for each in presets:
        print(f"{each.name:<{width}}  {each.description}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """A space's YAML as it was written, comments and all."""
    from spaces.loading import load_space, space_text

    if args.json:
        print(json.dumps(load_space(args.space).to_document(), indent=2))
        return 0
    text, _ = space_text(args.space)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Read and check a space, its backbones too; its dimensions, its points and the config of trial 0."""
    from spaces.fixing import parse_fixes
    from spaces.loading import load_space

    fixes = parse_fixes(args.fix)
    space = load_space(args.space).fix(fixes)
    from search.prelaunch import check_networks

    check_networks(space)
    if args.json:
        print(json.dumps(_checked_document(space), indent=2))
    else:
        _print_space(space)
    return 0


def _checked_document(space: "SearchSpace") -> dict[str, Any]:
    return {
        **space.to_document(),
        "content_hash": space.content_hash(),
        "default": space.to_config(space.default()).to_flat(),
        "initial_points": space.initial_points(),
    }


def _print_space(space: "SearchSpace") -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    n_points = len(space.initial_points()) - 1
    dimensions = f"{len(space.parameters)} dimension{'s' if len(space.parameters) != 1 else ''}"
    console.print(f"[bold]{escape(space.name)}[/bold]  {escape(space.description)}", highlight=False, soft_wrap=True)
    console.print(_dimensions_table(space))
    console.print(_config_table(space))
    points = f"{n_points} point{'s' if n_points != 1 else ''} to try after the default"
    console.print(f"{dimensions}, {len(space.fixed)} fixed, {points}; the space is fine.", highlight=False)


def _dimensions_table(space: "SearchSpace") -> Any:
    from rich.markup import escape
    from rich.table import Table

    from spaces.domains import label_of

    table = Table(title="What varies", title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("parameter", no_wrap=True)  # a name can be copied from any screen
    for column in ("domain", "default", "when"):
        table.add_column(column, overflow="fold")
    for each in space.parameters:
        when = " and ".join(condition.describe() for condition in each.when)
        table.add_row(*map(escape, (each.name, each.domain.describe(), label_of(each.default), when)))
    return table


def _config_table(space: "SearchSpace") -> Any:
    from rich.markup import escape
    from rich.table import Table

    from spaces.config import FIELDS
    from spaces.domains import label_of

    varying = {name for each in space.parameters for name in each.setting_names}
    table = Table(title="Config of trial 0", title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("setting", no_wrap=True)
    for column in ("value", "", "meaning"):
        table.add_column(column, overflow="fold")
    for name, value in space.to_config(space.default()).to_flat().items():
        origin = "varies" if name in varying else "fixed" if name in space.fixed else ""
        table.add_row(name, escape(label_of(value)), origin, FIELDS[name])
    return table
