"""`affectune ui` shows searches in MLflow's pages; `affectune doctor` says what is installed and what is wrong."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.doctor import Check

NAME_WIDTH = 24
"""Of the column that says what the doctor looked at."""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands of this file."""
    _add_ui(subparsers)
    _add_doctor(subparsers)


def _add_ui(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = "Start MLflow's pages on this machine for the searches of a storage; Ctrl-C ends it."
    parser = subparsers.add_parser("ui", help="look at searches in the MLflow UI", description=about)
    parser.add_argument(
        "--storage", type=Path, metavar="DIR", help="where searches are kept (default: AFFECTUNE_STORAGE, else runs/)"
    )
    parser.add_argument("--tracking-uri", metavar="URI", help="the records (default: mlflow.db in the storage)")
    parser.add_argument("--port", type=int, default=5000, help="port on this machine (default: %(default)s)")
    parser.add_argument("--no-browser", dest="opens", action="store_false", help="only print the address")
    parser.set_defaults(run=run_ui)


def _add_doctor(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = "Look at the installation and the machine; exit code 1 where something is wrong."
    parser = subparsers.add_parser("doctor", help="what is installed and what is wrong", description=about)
    parser.add_argument("--storage", type=Path, metavar="DIR", help="where searches are kept, for the disk's space")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.set_defaults(run=run_doctor)


def run_ui(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C; for a server's address, only print where to look."""
    from search.storage import default_storage
    from search.tracking_server import check_server, default_tracking_uri
    from search.tracking_ui import HOST, check_database, signals_as_interrupt, tracking_ui
    from spaces.errors import TrackingError

    storage = args.storage or default_storage()
    uri = args.tracking_uri or default_tracking_uri(storage)
    check_server(uri)
    if not uri.startswith("sqlite:"):
        _show_links(storage, uri, base=uri, opens=args.opens)
        return 0
    database = check_database(uri)
    base = f"http://{HOST}:{args.port}"
    try:
        with signals_as_interrupt():
            print(f"starting MLflow on {database}", flush=True)
            with tracking_ui(database, port=args.port) as server:
                _show_links(storage, uri, base=base, opens=args.opens)
                print("Ctrl-C ends it", flush=True)
                code = server.wait()
    except KeyboardInterrupt:
        print("ended", flush=True)
        return 0
    raise TrackingError(f"MLflow's server must run until Ctrl-C, got exit code {code}; start it again")


def run_doctor(args: argparse.Namespace) -> int:
    """Examine and print; 1 where something is wrong."""
    from dataclasses import asdict

    from search.doctor import examinations
    from search.progress import waiting
    from search.storage import default_storage

    checks: list[Check] = []
    for what, look in examinations(storage=args.storage or default_storage()).items():
        with waiting(f"looking at {what}"):
            found = look()
        checks += found
        if not args.json:
            _print_checks(found)
    n_wrong = sum(check.state == "wrong" for check in checks)
    if args.json:
        print(json.dumps({"ok": n_wrong == 0, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        n_warn = sum(check.state == "warn" for check in checks)
        print(f"{n_wrong} wrong, {n_warn} to look at, {len(checks) - n_wrong - n_warn} ok")
    return 1 if n_wrong else 0


def _print_checks(checks: "Sequence[Check]") -> None:
    for check in checks:
        print(f"{check.state:<5}  {check.name:<{NAME_WIDTH}}  {check.found}", flush=True)
        if check.advice:
            print(f"{'':<5}  {'':<{NAME_WIDTH}}  -> {check.advice}", flush=True)


def _show_links(storage: Path, uri: str, *, base: str, opens: bool) -> None:
    """Print the addresses of all searches, the newest last, and show that in a browser where there is a screen."""
    from search.tracking_server import hide_password
    from search.tracking_ui import open_browser, search_links

    print(f"MLflow: {hide_password(base)}")
    links = search_links(storage, uri, base=hide_password(base))
    for name, link in links.items():
        print(f"  {name}: {link}", flush=True)
    if opens and links:
        newest = list(links)[-1]
        if open_browser(links[newest]):
            print(f"the browser shows {newest}, the newest", flush=True)
