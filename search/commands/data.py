"""`affectune data`: make face tables from faces there are, or from generated ones, and look at them."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.commands import data_tables
from search.commands.data_output import answer, progress
from search.commands.options import at_least, class_names

if TYPE_CHECKING:
    from trainables.data.table import FaceTable

_INGEST = """\
A source is a folder of class folders (class/*.jpg, at any depth; or train/class/*.jpg and so on), a Parquet file or a
folder of them with encoded images, or a CSV file of paths, relative to its own folder, and labels. CSV and Parquet may
also tell valence and arousal (-1..1), action units (au1 ... au26, or a list action_units), 68 landmarks, hand (0 or 1),
subject (the person) and split. A label that is a number is an index into --classes, or a name where there is none.

A face counts once: of exact copies one stays, in test before valid before train. An image with two labels is left out
where that is rare (up to 1 % of a source), and stops everything where it is not. Nobody stands in two splits. A split
without a source is cut from train, stratified by class and never through a subject.
"""


def register(subparsers: Any) -> None:
    """Add `data` with its commands."""
    data = subparsers.add_parser("data", help="make and look at face tables: ingest, show, synth, merge, upscale")
    commands = data.add_subparsers(title="commands", metavar="COMMAND", dest="data_command")
    _add_ingest(commands)
    _add_show(commands)
    _add_synth(commands)
    data_tables.register(commands)


def _add_ingest(commands: Any) -> None:
    ingest = commands.add_parser(
        "ingest",
        help="a face table from image folders, Parquet or CSV",
        epilog=_INGEST,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ingest.add_argument("--train", metavar="SRC", type=Path, required=True, help="faces to train on")
    ingest.add_argument("--valid", metavar="SRC", type=Path, help="faces to choose with (default: cut from train)")
    ingest.add_argument("--test", metavar="SRC", type=Path, help="faces to judge with (default: cut from train)")
    ingest.add_argument("--out", metavar="DATA", type=Path, required=True, help="new folder for the table")
    ingest.add_argument(
        "--classes",
        metavar="a,b,c",
        type=class_names,
        help="keep these, in this order; or an order's name, such as lsd6 (default: all, sorted)",
    )
    ingest.add_argument(
        "--image-px", metavar="P", type=int, help="side of the stored images (default: the commonest, at most 224)"
    )
    ingest.add_argument(
        "--channels", type=int, choices=(1, 3), help="1 grey, 3 colour (default: 1 where no sampled image has colour)"
    )
    for kind, what in _COLUMNS.items():
        ingest.add_argument(f"--{kind}-column", metavar="C", help=f"column of {what} (default: found by its name)")
    ingest.add_argument(
        "--on-bad",
        choices=("fail", "skip"),
        default="fail",
        help="what an unreadable image, a contradiction or a subject in two splits does (default: fail)",
    )
    ingest.add_argument("--valid-ratio", metavar="R", type=float, default=0.15, help="share cut for valid (0.15)")
    ingest.add_argument("--test-ratio", metavar="R", type=float, default=0.1, help="share cut for test (0.1); 0: none")
    ingest.add_argument("--seed", metavar="S", type=at_least(0), default=0, help="of the cut (0)")
    ingest.add_argument("--workers", metavar="N", type=int, help="decoding processes (default: one a processor)")
    ingest.add_argument("--json", action="store_true", help="print one JSON document")
    ingest.set_defaults(run=run_ingest)


_COLUMNS = {
    "image": "encoded images or paths",
    "label": "class names",
    "subject": "people",
    "id": "sample ids",
    "split": "train, valid or test",
}


def _add_show(commands: Any) -> None:
    show = commands.add_parser("show", help="counts, sizes, sample faces")
    show.add_argument("data", metavar="DATA", help="a face table, or a URI of one")
    show.add_argument("--sheet", metavar="FILE", type=Path, help="write a picture of sample faces (.png or .jpg)")
    show.add_argument(
        "--pictures",
        metavar="DIR",
        type=Path,
        help="write sample faces into a new folder, with a folder a class",
    )
    show.add_argument("--split", choices=("train", "valid"), default="train", help="split of the samples (train)")
    show.add_argument("--per-class", metavar="N", type=int, default=10, help="sample faces of a class (10)")
    show.add_argument("--json", action="store_true", help="print one JSON document")
    show.set_defaults(run=run_show)


def _add_synth(commands: Any) -> None:
    synth = commands.add_parser("synth", help="a face table of generated faces")
    synth.add_argument("--out", metavar="DATA", type=Path, required=True, help="new folder for the table")
    synth.add_argument("--train", metavar="N", type=int, default=4000, help="clean faces to train on (4000)")
    synth.add_argument("--valid", metavar="N", type=int, default=1000, help="wild faces to choose with (1000)")
    synth.add_argument("--test", metavar="N", type=int, default=1000, help="wild faces to judge with (1000)")
    synth.add_argument("--image-px", metavar="P", type=int, default=64, help="side of the images (64)")
    synth.add_argument("--seed", metavar="S", type=int, default=0, help="same seed, same faces (0)")
    synth.add_argument("--json", action="store_true", help="print one JSON document")
    synth.set_defaults(run=run_synth)


def run_ingest(args: argparse.Namespace) -> int:
    """Make a face table from sources."""
    from trainables.data.columns import ColumnNames
    from trainables.data.ingest import IngestRequest, ingest

    request = IngestRequest(
        train=args.train,
        valid=args.valid,
        test=args.test,
        out=args.out,
        classes=tuple(args.classes) if args.classes is not None else None,
        image_px=args.image_px,
        channels=args.channels,
        columns=ColumnNames(**{kind: getattr(args, f"{kind}_column") for kind in _COLUMNS}),
        on_bad=args.on_bad,
        valid_ratio=args.valid_ratio,
        test_ratio=args.test_ratio,
        seed=args.seed,
        workers=args.workers,
    )
    with progress("decoding", then="cleaning and writing", quiet=args.json) as report:
        table = ingest(request, report=report)
    answer(table, as_json=args.json)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Say what a face table holds; its test split is counted, not opened."""
    from search.named_table import open_named_table

    table = open_named_table(args.data)
    n_pictures = _write_samples(table, args)
    answer(table, as_json=args.json)
    if args.json:
        return 0
    if args.sheet is not None:
        print(f"sample faces: {args.sheet}")
    if args.pictures is not None:
        print(f"{n_pictures} sample faces as pictures: {args.pictures}")
    if args.sheet is None and args.pictures is None and sys.stdout.isatty():
        from rich.console import Console

        from search.data_page import print_faces

        print_faces(table, Console())
    return 0


def run_synth(args: argparse.Namespace) -> int:
    """Make a face table of generated faces."""
    from trainables.data.synth import write_synth_table

    table = write_synth_table(
        args.out,
        n_train=args.train,
        n_valid=args.valid,
        n_test=args.test,
        image_px=args.image_px,
        seed=args.seed,
        progress=not args.json,
    )
    answer(table, as_json=args.json)
    return 0


def _write_samples(table: "FaceTable", args: argparse.Namespace) -> int:
    """What `--sheet` and `--pictures` ask for; how many pictures there are of single faces."""
    from spaces.errors import UsageError
    from trainables.outputs import check_new_folder, new_folder

    if args.sheet is None and args.pictures is None:
        return 0
    if not 1 <= args.per_class <= 100:
        raise UsageError(f"--per-class must be within 1..100, got {args.per_class}")
    if args.pictures is not None:
        check_new_folder(args.pictures)
    if args.sheet is not None:
        _write_sheet(table, args)
    if args.pictures is None:
        return 0
    from trainables.data.contact_sheet import write_pictures

    with new_folder(args.pictures) as staging:
        files = write_pictures(staging, table.split(args.split), table.info.classes, per_class=args.per_class)
    return len(files)


def _write_sheet(table: "FaceTable", args: argparse.Namespace) -> None:
    from spaces.errors import UsageError
    from trainables.data.contact_sheet import draw_sheet
    from trainables.outputs import new_file

    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    kind = formats.get(args.sheet.suffix.lower())
    if kind is None:
        raise UsageError(f"--sheet must end in .png or .jpg, got {args.sheet.name!r}")
    sheet = draw_sheet(table.split(args.split), table.info.classes, per_class=args.per_class)
    with new_file(args.sheet) as staging:
        sheet.save(staging, format=kind)
