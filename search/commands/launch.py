"""`affectune search` and `affectune resume`: launch a search, or go on with one, and follow it to its end."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.commands.options import (
    LOADING,
    add_resources,
    add_storage,
    at_least,
    duration_s,
    resources_of,
    share,
    storage_of,
)


def register(subparsers: Any) -> None:
    """Add the two commands."""
    _add_search(subparsers)
    _add_resume(subparsers)


def _add_search(subparsers: Any) -> None:
    parser = subparsers.add_parser("search", help="search a space on a face table")
    parser.add_argument("space", metavar="SPACE", help="a preset's name (see 'affectune spaces') or a YAML file")
    parser.add_argument(
        "--data",
        metavar="DATA",
        required=True,
        help="face table of 'affectune data': a folder, or s3://... or gs://...",
    )
    parser.add_argument(
        "--fix", metavar="KEY=VALUE", action="extend", nargs="+", default=[], help="fix settings over the space"
    )
    parser.add_argument("--name", metavar="N", help="of the search (default: space, date and time)")
    parser.add_argument(
        "--trials", metavar="N", type=at_least(1), help="at most (default: 30, or no limit beside time)"
    )
    parser.add_argument(
        "--time-budget", metavar="T", type=duration_s, help="90s, 20m, 1h30m; trials shorten their schedule to fit"
    )
    parser.add_argument(
        "--first",
        metavar="heads:N",
        default="",
        help="train N heads on frozen backbones first, and begin with their best settings (heads:N:M hands over M)",
    )
    parser.add_argument(
        "--let-finish",
        metavar="SHARE",
        type=share,
        default=0.05,
        help="of the trials to be stopped for being weak, let this share finish, to tell how often stopping is wrong "
        "(default: 0.05)",
    )
    add_resources(parser)
    add_storage(parser)
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow's (default: a SQLite file in the storage)")
    parser.add_argument(
        "--no-faces", dest="shows_faces", action="store_false", help="no faces on the pages of trials in MLflow"
    )
    parser.add_argument("--seed", metavar="S", type=at_least(0), default=0, help="of the sampler (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    parser.set_defaults(run=run_search_command)


def _add_resume(subparsers: Any) -> None:
    parser = subparsers.add_parser("resume", help="go on with a search after a crash, or with more trials")
    parser.add_argument("name", metavar="NAME", help="of a search")
    parser.add_argument(
        "--trials", metavar="+N|N", type=_more_trials, help="so many more, or so many in all (default: as asked first)"
    )
    parser.add_argument(
        "--time-budget", metavar="T", type=duration_s, help="from now (default: what is left, unless --trials is given)"
    )
    parser.add_argument(
        "--space",
        metavar="SPACE",
        help="search another space from now on, a preset or a file, which holds all trials so far",
    )
    add_resources(parser)
    add_storage(parser)
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow's, if it is another now")
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    parser.set_defaults(run=run_resume_command)


def _more_trials(text: str) -> dict[str, int]:
    """`+10` is ten more, `20` is twenty in all; the words for `More`."""
    return {"n_more" if text.startswith("+") else "n_trials": at_least(1)(text.removeprefix("+"))}


def run_search_command(args: argparse.Namespace) -> int:
    """Launch, follow, and say what came out; 130 where it was interrupted."""
    from search.progress import waiting
    from spaces.fixing import parse_fixes
    from spaces.loading import load_space

    space = load_space(args.space)
    if args.fix:
        space = space.fix(parse_fixes(args.fix))
    with waiting(LOADING):
        from search.launch import run_search
        from search.plan import SearchPlan
        from search.storage import default_name

    plan = SearchPlan(
        n_trials=args.trials,
        time_budget_s=args.time_budget,
        seed=args.seed,
        reprieve_share=args.let_finish,
        first=args.first,
        shows_faces=args.shows_faces,
        **resources_of(args),
    )
    outcome = run_search(
        space,
        data=args.data,
        storage=storage_of(args),
        name=args.name or default_name(space),
        tracking_uri=args.tracking_uri,
        plan=plan,
        screen_to_stderr=args.json,
    )
    return _print(outcome, as_json=args.json)


def run_resume_command(args: argparse.Namespace) -> int:
    """Go on, follow, and say what came out; 130 where it was interrupted."""
    from search.progress import waiting

    with waiting(LOADING):
        from search.resume import More, resume_search
        from spaces.loading import load_space

    outcome = resume_search(
        storage_of(args),
        args.name,
        More(**(args.trials or {}), time_budget_s=args.time_budget),
        space=load_space(args.space) if args.space else None,
        tracking_uri=args.tracking_uri,
        resources=resources_of(args),
        screen_to_stderr=args.json,
    )
    return _print(outcome, as_json=args.json)


def _print(outcome: Any, *, as_json: bool) -> int:
    """Say what came out. Returns the exit code."""
    from search.interrupts import INTERRUPTED_CODE

    document = _document(outcome)
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        _print_outcome(document)
    return INTERRUPTED_CODE if document["interrupted"] else 0


def _document(outcome: Any) -> dict[str, Any]:
    from search.ranking import count_ends, usable
    from search.stopping import measure_stopping

    best = next(iter(usable(outcome.records)), None)  # a resumed search with nothing to do may have none
    manifest = outcome.folder.read_manifest()
    return {
        "search": outcome.folder.name,
        "folder": str(outcome.folder.path),
        "n_trials": len(outcome.records),
        **count_ends(outcome.records),
        "stopping": asdict(measure_stopping(outcome.records, manifest.plan)),
        "best_trial": best.trial_id if best else None,
        "best_macro_f1": best.best_macro_f1 if best else None,
        "default_macro_f1": next((r.best_macro_f1 for r in outcome.records if r.number == 0), None),
        "interrupted": outcome.interrupted,
        **({"note": outcome.note} if outcome.note else {}),
        "tracking_uri": manifest.tracking_uri,
    }


def _print_outcome(document: dict[str, Any]) -> None:
    from rich.console import Console

    from search.storage import storage_words

    console = Console(highlight=False, soft_wrap=True)
    name = document["search"]
    if document["interrupted"]:
        console.print("interrupted: what was finished is kept and can be used")
    if "note" in document:
        console.print(document["note"], markup=False)
    if document["best_trial"]:
        score = f"{document['best_macro_f1']:.4f}"
        console.print(f"best trial    {document['best_trial']}, macro-F1 {score} on valid", markup=False)
    console.print(f"kept in       {document['folder']}", markup=False)
    where = storage_words(Path(document["folder"]).parent)
    if document["interrupted"]:
        console.print(f"to go on      affectune resume {name}{where}", markup=False)
    if document["best_trial"]:
        console.print(f"next          affectune ensemble {name}{where}", markup=False)
        console.print(f"on one page   affectune report {name}{where}", markup=False)
    console.print(f"trials in UI  affectune ui{where}", markup=False)
