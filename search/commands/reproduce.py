"""`affectune reproduce`: the papers' tables, and the rows of one of them on one's own faces."""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.commands.options import add_resources, add_storage, at_least, duration_s, resources_of, storage_of

_DESCRIPTION = """\
Without a word: the papers and their tables, one line each. With a table, such as 001:1, its rows become the trials of
one search on your faces, and the paper's figures are printed beside yours. A paper's number alone is its first table.
A search that was cut off goes on with the same words and its --name."""


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "reproduce",
        help="run a paper's table on a face table",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", metavar="PAPER[:TABLE]", nargs="?", help="such as 001:1, 1:1 or hust-ant:1")
    parser.add_argument("--data", metavar="DATA", help="face table of 'affectune data'")
    parser.add_argument("--also", metavar="DATA2", help="score every row on this table's valid split too")
    parser.add_argument("--start", metavar="FILE", type=Path, help="saved model for rows that go on from one")
    parser.add_argument("--partner", metavar="FILE", type=Path, help="saved model for pre-trained rows and blends")
    parser.add_argument(
        "--fix",
        metavar="KEY=VALUE",
        action="extend",
        nargs="+",
        default=[],
        help="fix settings over all that a row does not set itself; ROW:KEY=VALUE over one row",
    )
    parser.add_argument("--epochs", metavar="N", type=at_least(1), help="of each row (default: the table's)")
    parser.add_argument("--seeds", metavar="N", type=at_least(1), default=1, help="trials a row (default: 1)")
    parser.add_argument("--seed", metavar="S", type=at_least(0), default=0, help="first training seed (default: 0)")
    parser.add_argument("--name", metavar="N", help="of the search (default: paper, table, date and time)")
    parser.add_argument("--time-budget", metavar="T", type=duration_s, help="90s, 20m, 1h30m; trials shorten to fit")
    add_resources(parser)
    add_storage(parser)
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow's (default: a SQLite file in the storage)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run_reproduce_command)


def run_reproduce_command(args: argparse.Namespace) -> int:
    """List the tables, or run one; 130 where it was interrupted, 1 where no row has a score."""
    if args.table is None:
        return _list_tables(as_json=args.json)
    from search.reproduce.tables import find_table
    from spaces.errors import UsageError

    paper, table = find_table(args.table)
    if args.data is None:
        raise UsageError(f"--data must name a face table where a paper's table is run, got none: {args.table}")
    from search.reproduce.space import Wishes, parse_row_fixes

    fixes, row_fixes = parse_row_fixes(args.fix, table)
    from search.plan import SearchPlan
    from search.reproduce.job import Order, reproduce

    order = Order(
        paper=paper,
        table=table,
        data=args.data,
        storage=storage_of(args),
        name=args.name or f"paper{paper.number}-{table.number}-{time.strftime('%Y%m%d-%H%M%S')}",
        also=args.also,
        partner=args.partner,
        wishes=Wishes(
            fixes=fixes,
            row_fixes=row_fixes,
            epochs=args.epochs,
            n_seeds=args.seeds,
            seed=args.seed,
            start=args.start,
        ),
        tracking_uri=args.tracking_uri,
        plan=SearchPlan(time_budget_s=args.time_budget, **resources_of(args)),
        screen_to_stderr=args.json,
    )
    document = reproduce(order)
    _print(document, as_json=args.json)
    return exit_code_of(document)


def exit_code_of(document: Mapping[str, Any]) -> int:
    """130 where a Ctrl-C cut the rows off, 1 where none has a score, else 0."""
    from search.interrupts import INTERRUPTED_CODE

    if document["interrupted"]:
        return INTERRUPTED_CODE
    return 0 if any(row["ours"] for row in document["rows"]) else 1


def _list_tables(*, as_json: bool) -> int:
    from search.reproduce.tables import papers

    rows = [
        {
            "name": f"{paper.number}:{table.number}",
            "title": table.title,
            "preset": table.preset,
            "n_rows": len(table.rows),
            "n_trials": len(table.trained),
            "citation": paper.citation,
            "names": list(paper.names),
        }
        for paper in papers()
        for table in paper.tables
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            paper = str(row["citation"]).partition(",")[0]
            print(f"{row['name']:6} {paper}: {row['title']} ({row['n_rows']} rows, {row['n_trials']} trials)")
    return 0


def _print(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, indent=2))
        return
    from rich.console import Console

    from search.reproduce.page import WIDTH, print_page

    print_page(document, Console(highlight=False, width=WIDTH))
    if document["interrupted"]:
        print("interrupted: the same words with --name", document["search"], "go on")
    print("kept in       ", document["folder"])
