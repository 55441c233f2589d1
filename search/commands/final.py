"""`affectune ensemble` and `affectune export`: from a search's trials to an ensemble, and from that to an artifact."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.commands.options import (
    LOADING,
    add_resources,
    add_storage,
    at_least,
    between,
    duration_s,
    positive,
    resources_of,
    storage_of,
)

if TYPE_CHECKING:
    from search.folder import SearchFolder


def register(subparsers: Any) -> None:
    """Add the two commands."""
    _add_ensemble(subparsers)
    _add_export(subparsers)


def _add_ensemble(subparsers: Any) -> None:
    ensemble = subparsers.add_parser("ensemble", help="bags of the best configs, and a selection among all")
    ensemble.add_argument("name", metavar="NAME", help="of a search")
    ensemble.add_argument(
        "--bags",
        metavar="B",
        type=at_least(0),
        help="of each config, on other subsamples; 0 only selects (default: up to 4 in all, as time allows)",
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
    ensemble.add_argument(
        "--snapshots",
        metavar="N",
        type=between(0, 16),
        default=0,
        help="late epochs of bags that may vote (default: 0)",
    )
    ensemble.add_argument(
        "--soup", action="store_true", help="average the weights of networks of one start, as one more candidate each"
    )
    ensemble.add_argument(
        "--also", metavar="DATA", help="labelled faces of another kind (a table or a source) to be scored on too"
    )
    ensemble.add_argument(
        "--objective",
        choices=("own", "mean", "worst"),
        default="own",
        help="choose by the search's own faces, or by both kinds: their mean, or the worse (default: own)",
    )
    add_resources(ensemble)
    add_storage(ensemble)
    ensemble.add_argument("--json", action="store_true", help="print summary.json")
    ensemble.set_defaults(run=run_ensemble)


def _add_export(subparsers: Any) -> None:
    export = subparsers.add_parser("export", help="write the ensemble as an artifact")
    export.add_argument("name", metavar="NAME", help="of a search with an ensemble")
    export.add_argument("--out", metavar="DIR", type=Path, required=True, help="a new or empty folder")
    export.add_argument("--replace", action="store_true", help="DIR may be an earlier export, which makes room")
    export.add_argument(
        "--format",
        choices=("pyfunc", "onnx"),
        default="pyfunc",
        help="onnx adds one graph of all (default: pyfunc)",
    )
    limits = export.add_argument_group(
        "limits", "the best that keeps within them, of the ensembles that the final job lists"
    )
    limits.add_argument("--max-ms", metavar="X", type=positive, help="milliseconds an image, as measured there")
    limits.add_argument("--max-mb", metavar="X", type=positive, help="megabytes of weights")
    limits.add_argument("--max-members", metavar="K", type=at_least(1), help="members")
    export.add_argument("--licence", metavar="TEXT", default="", help="of the faces, for the model card")
    export.add_argument("--register", metavar="MODEL", help="also as a version of this model in MLflow's registry")
    export.add_argument("--force", action="store_true", help="make that version the champion in any case")
    add_storage(export)
    export.set_defaults(run=run_export)


def run_ensemble(args: argparse.Namespace) -> int:
    """Build the ensemble and print the comparison."""
    from search.progress import waiting
    from search.storage import open_folder, storage_words
    from spaces.errors import UsageError

    if args.objective != "own" and args.also is None:
        raise UsageError(f"--objective {args.objective} needs faces of another kind; --also DATA names them")
    folder = open_folder(storage_of(args), args.name)
    with waiting(LOADING):
        from search.final import build_ensemble
        from search.folder_lock import only_driver
        from search.plan import EnsemblePlan

    plan = EnsemblePlan(
        n_bags=args.bags,
        n_configs=args.configs,
        max_members=args.members,
        time_budget_s=args.time_budget,
        seed=args.seed,
        n_snapshots=args.snapshots,
        soup=args.soup,
        also=args.also,
        objective=args.objective,
        **resources_of(args),
    )
    with only_driver(folder):
        summary = build_ensemble(folder, plan, screen_to_stderr=args.json)
    if args.json:
        print(json.dumps(summary, indent=2))
        return 0
    _print_findings(folder, summary)
    print(f"next    affectune export {args.name}{storage_words(folder.path.parent)} --out DIR")
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Write the artifact, and register it if asked to."""
    from search.progress import waiting
    from search.storage import open_folder
    from spaces.errors import UsageError

    if args.force and not args.register:
        raise UsageError("--force makes a registered version the champion; --register MODEL names the model")
    folder = open_folder(storage_of(args), args.name)
    with waiting(LOADING):
        from search.folder_lock import only_driver
        from search.handover import ExportOrder, export_search
        from search.options import Limits

    order = ExportOrder(
        limits=Limits(ms=args.max_ms, megabytes=args.max_mb, members=args.max_members),
        register=args.register or "",
        force=args.force,
        replace=args.replace,
        with_onnx=args.format == "onnx",
        licence=args.licence,
    )
    with only_driver(folder), waiting("writing the artifact"):
        exported = export_search(folder, args.out, order)
    option = exported.option
    print(f"artifact  {exported.path}")
    print(f"members   {option.in_words()}")
    if exported.registration:
        registration = exported.registration
        print(f"registered as version {registration.version} of {args.register}; {registration.reason}")
    print(f"next      affectune predict {exported.path} IMAGE...")
    return 0


def _print_findings(folder: "SearchFolder", summary: dict[str, Any]) -> None:
    from rich.console import Console

    from search.result_tables import print_methods, print_options, print_summary

    console, ensemble = Console(highlight=False), folder.read_ensemble()
    console.soft_wrap = not console.is_terminal  # a file's lines are as long as their sentences
    print_methods(ensemble["methods"], console=console)
    print_options(ensemble["options"], console=console)
    print_summary(summary, console=console)
