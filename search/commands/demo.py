"""`affectune demo`: the whole story on generated faces, in minutes on a laptop."""

import argparse
import time
from pathlib import Path
from typing import Any

from search.commands.options import at_least, duration_s


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("demo", help="the whole story on generated faces, in minutes")
    parser.add_argument("--out", metavar="DIR", type=Path, help="a new folder (default: demo-, date and time)")
    parser.add_argument("--trials", metavar="N", type=at_least(2), default=14, help="of the search (default: 14)")
    parser.add_argument(
        "--time-budget", metavar="T", type=duration_s, default=160.0, help="of the search (default: 160s)"
    )
    parser.add_argument("--seed", metavar="S", type=at_least(0), default=0, help="of faces and search (default: 0)")
    parser.set_defaults(run=run_demo_command)


def run_demo_command(args: argparse.Namespace) -> int:
    """Faces, search, ensemble, export, predict, evaluate."""
    from search.demo import run_demo

    out = args.out or Path(time.strftime("demo-%Y%m%d-%H%M%S"))
    run_demo(out, n_trials=args.trials, time_budget_s=args.time_budget, seed=args.seed)
    return 0
