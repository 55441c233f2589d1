"""`affectune ensemble` and `affectune export`: from a search's trials to an ensemble, and from that to an artifact."""

import argparse
import json
from pathlib import Path
from typing import Any

from search.commands.options import add_resources, add_storage, at_least, duration_s, resources_of, storage_of


def register(subparsers: Any) -> None:
    """Add the two commands."""
    ensemble = subparsers.add_parser("ensemble", help="bags of the best configs, and a selection among all")
    ensemble.add_argument("name", metavar="NAME", help="of a search")
    ensemble.add_argument(
        "--bags", metavar="B", type=at_least(0), help="trained anew; 0 only selects (default: up to 4, as time allows)"
    )
    ensemble.add_argument(
        "--configs", metavar="N", type=at_least(1), default=3, help="best trials that bags repeat (default: 3)"
    )
    ensemble.add_argument("--members", metavar="K", type=at_least(1), default=8, help="at most (default: 8)")
    ensemble.add_argument(
        "--time-budget",
        metavar="T",
        type=duration_s,
        help="for all bags together, such as 20m (default: as long as the search took)",
    )
    ensemble.add_argument("--seed", metavar="S", type=at_least(0), default=0, help="of the bags (default: 0)")
    add_resources(ensemble)
    add_storage(ensemble)
    ensemble.add_argument("--json", action="store_true", help="print summary.json")
    ensemble.set_defaults(run=run_ensemble)

    export = subparsers.add_parser("export", help="write the ensemble as an artifact")
    export.add_argument("name", metavar="NAME", help="of a search with an ensemble")
    export.add_argument("--out", metavar="DIR", type=Path, required=True, help="a new or empty folder")
    export.add_argument("--register", metavar="MODEL", help="also as a version of this model in MLflow's registry")
    add_storage(export)
    export.set_defaults(run=run_export)


def run_ensemble(args: argparse.Namespace) -> int:
    """Build the ensemble and print the comparison."""
    from search.folder import open_folder

    folder = open_folder(storage_of(args), args.name)
    from search.final import build_ensemble
    from search.folder_lock import only_driver
    from search.plan import EnsemblePlan

    plan = EnsemblePlan(
        n_bags=args.bags,
        n_configs=args.configs,
        max_members=args.members,
        time_budget_s=args.time_budget,
        seed=args.seed,
        **resources_of(args),
    )
    with only_driver(folder):
        summary = build_ensemble(folder, plan, screen_to_stderr=args.json)
    if args.json:
        print(json.dumps(summary, indent=2))
    else:
        print_summary(summary)
        print(f"next    affectune export {args.name} --storage {folder.path.parent} --out DIR")
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Write the artifact, and register it if asked to."""
    from search.folder import open_folder

    folder = open_folder(storage_of(args), args.name)
    from search.handover import export_search

    out, version = export_search(folder, args.out, register=args.register)
    print(f"artifact  {out}")
    if version:
        print(f"registered as version {version} of {args.register}")
    print(f"next      affectune predict {out} IMAGE...")
    return 0


def print_summary(summary: dict[str, Any]) -> None:
    """The comparison table and the members."""
    from rich.console import Console

    from search.console import print_scores

    console = Console(highlight=False)
    print_scores(summary["scores"], console=console)
    members = ", ".join(f"{m['member']} {m['weight']:.2f}" for m in summary["members"])
    console.print(f"members: {members}", markup=False)
    if summary["n_test_reads"] > 1:
        console.print(
            f"the sealed test has now been read {summary['n_test_reads']} times for this search", markup=False
        )
