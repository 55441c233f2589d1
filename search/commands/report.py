"""`affectune report`: a search on one page."""

import argparse
from pathlib import Path
from typing import Any

from search.commands.options import add_storage, storage_of


def register(subparsers: Any) -> None:
    """Add the command."""
    about = (
        "Write one HTML file about a search, running or ended: what to expect, what to try next, leaderboard, what "
        "each parameter does, learning curves, what stopping saved, where the time went. It needs no network; where "
        "the search does not run, MLflow's run of its latest launch gets it too."
    )
    parser = subparsers.add_parser("report", help="a search on one page, as HTML", description=about)
    parser.add_argument("name", metavar="NAME", help="of a search")
    add_storage(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="the page (default: report.html in the search's folder)"
    )
    parser.add_argument(
        "--no-timing", dest="is_timed", action="store_false", help="leave out milliseconds that are not known yet"
    )
    parser.add_argument("--no-mlflow", dest="is_tracked", action="store_false", help="do not send it to MLflow")
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    """Write it, and say where it is."""
    from search.progress import progress_bars
    from search.report.job import track_report, write_report
    from search.storage import open_folder

    folder = open_folder(storage_of(args), args.name)
    with progress_bars() as told:
        page = write_report(folder, args.out, progress=told("timing the networks") if args.is_timed else None)
    print(f"report  {page}")
    if args.is_tracked:
        for line in track_report(folder):
            print(line)
    return 0
