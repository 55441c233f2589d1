"""`affectune status`: how a search stands, wherever its storage can be seen."""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from search.commands.options import add_storage, storage_of

if TYPE_CHECKING:
    from search.status import SearchStatus


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("status", help="what of a search runs where, how far it is, and what to do next")
    parser.add_argument("name", metavar="NAME", help="of a search")
    add_storage(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run_status)


def run_status(args: argparse.Namespace) -> int:
    """Look, and say what is seen."""
    from search.status import read_status
    from search.storage import open_folder

    status = read_status(open_folder(storage_of(args), args.name))
    if args.json:
        print(json.dumps(asdict(status), indent=2))
    else:
        for label, text in _lines(status):
            print(f"{label:<11} {text}")
    return 0


def _lines(status: "SearchStatus") -> list[tuple[str, str]]:
    """What is shown, with its labels."""
    import time

    from search.console import clock_text

    asked = "as time allows" if status.n_trials is None else f"of {status.n_trials}"
    ends = ", ".join(f"{n} {end}" for end, n in status.ends.items()) or "none yet"
    lines = [
        ("search", f"{status.search}, {_state_text(status)}"),
        ("kept in", status.folder),
        ("trials", f"{sum(status.ends.values())} {asked}: {ends}"),
    ]
    for trial in status.running:
        epoch = f"epoch {trial.epoch}/{trial.n_epochs}" if trial.n_epochs else "head"
        score = "" if trial.macro_f1 is None else f", best {trial.macro_f1:.4f}"
        heard = f"last sign of life {clock_text(trial.silent_s)} ago"
        lines.append(
            ("running", f"{trial.trial_id}, {epoch} on {trial.node or 'a node not known yet'}{score}, {heard}")
        )
    if status.best:
        lines.append(("best", f"{status.best[0]}, macro-F1 {status.best[1]:.4f} on valid"))
    if status.time_left_s is not None:
        lines.append(("time left", clock_text(status.time_left_s)))
    elif status.about_left_s is not None:
        lines.append(("time left", f"about {clock_text(status.about_left_s)}"))
    waiting = f", {status.n_waiting} records wait to be sent" if status.n_waiting else ""
    lines.append(("MLflow", f"{status.tracking_uri}{waiting}"))
    if status.state != "ended":
        lines.append(("last write", f"{clock_text(max(0.0, time.time() - status.heard_s))} ago"))
    return [*lines, ("next", status.next)]


def _state_text(status: "SearchStatus") -> str:
    import time

    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.launched_s))
    by = f" by {status.driver}" if status.driver else ""
    return {
        "running": f"running since {since}{by}",
        "silent": f"silent: launched {since}{by}, which can't be seen from here",
        "interrupted": f"interrupted, launched {since}{by}",
        "ended": f"ended, launched {since}{by}",
    }[status.state]
