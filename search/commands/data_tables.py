"""`affectune data merge` and `affectune data upscale`: new face tables from tables there are."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.commands.data_output import answer, progress
from search.commands.options import at_least, class_names

if TYPE_CHECKING:
    from trainables.data.upscale import Upscaler

_MERGE = """\
Train goes to train, valid to valid, test to test. Classes of the same name are one, and so are words for the same
(happy, happiness). A face of a class that --classes leaves out loses its expression where valence, arousal, action
units, landmarks or hand are known, else it is left out. A picture that stands in two tables counts once, in test before
valid before train. Equal names of people in different tables are different people.
"""

_UPSCALE = """\
A --model is a TorchScript file of yours (torch.jit.trace(network, image).save(FILE)) that takes images [n, 3, h, w] in
0..1 and answers them a whole number of times as large. Without one, all faces are resampled. Super-resolve the training
faces alone, unless valid shows that it gains too.
"""


def register(commands: Any) -> None:
    """Add `merge` and `upscale` to the commands of `data`."""
    _add_merge(commands)
    _add_upscale(commands)


def _add_merge(commands: Any) -> None:
    merge = commands.add_parser(
        "merge",
        help="one face table from several",
        epilog=_MERGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    merge.add_argument("tables", metavar="TABLE", nargs="+", type=Path, help="face tables, two or more")
    merge.add_argument("--out", metavar="DATA", type=Path, required=True, help="new folder for the table")
    merge.add_argument(
        "--classes",
        metavar="a,b,c",
        type=class_names,
        help="keep these, in this order; or an order's name, such as abaw8 (default: all)",
    )
    merge.add_argument(
        "--map", metavar="A=B", action="append", type=_renaming, default=[], help="count class A as B; may be repeated"
    )
    merge.add_argument("--image-px", metavar="P", type=int, help="side of the images (default: the commonest)")
    merge.add_argument(
        "--channels", type=int, choices=(1, 3), help="1 grey, 3 colour (default: 3 where a table has it)"
    )
    merge.add_argument(
        "--on-bad",
        choices=("fail", "skip"),
        default="fail",
        help="what pictures with two labels do where they are many (default: fail)",
    )
    merge.add_argument("--json", action="store_true", help="print one JSON document")
    merge.set_defaults(run=run_merge)


def _add_upscale(commands: Any) -> None:
    upscale = commands.add_parser(
        "upscale",
        help="a face table with larger faces, by a super-resolution network or plainly",
        epilog=_UPSCALE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    upscale.add_argument("data", metavar="DATA", type=Path, help="a face table")
    upscale.add_argument("--out", metavar="NEW", type=Path, required=True, help="new folder for the table")
    upscale.add_argument(
        "--factor", metavar="F", type=at_least(2), help="new side over the old (default: the network's own, else 2)"
    )
    upscale.add_argument("--model", metavar="FILE", type=Path, help="super-resolution network, a TorchScript file")
    upscale.add_argument(
        "--splits", metavar="a,b", default="train", help="splits for the network; the others are resampled (train)"
    )
    upscale.add_argument("--device", metavar="D", default="cpu", help="where the network computes: cpu or cuda (cpu)")
    upscale.add_argument("--json", action="store_true", help="print one JSON document")
    upscale.set_defaults(run=run_upscale)


def run_merge(args: argparse.Namespace) -> int:
    """Make a face table from several."""
    from spaces.errors import UsageError
    from trainables.data.merge import merge_tables

    rename = dict(args.map)
    if len(rename) < len(args.map):
        raise UsageError(f"--map must rename a class once, got {', '.join(f'{a}={b}' for a, b in args.map)}")
    with progress("merging", then="finishing", quiet=args.json) as report:
        table = merge_tables(
            args.tables,
            args.out,
            classes=args.classes,
            rename=rename,
            image_px=args.image_px,
            channels=args.channels,
            on_bad=args.on_bad,
            report=report,
        )
    answer(table, as_json=args.json)
    return 0


def run_upscale(args: argparse.Namespace) -> int:
    """Make a face table with larger faces."""
    from trainables.data.table import open_table
    from trainables.data.upscale import upscale_table

    image_px = open_table(args.data).info.image_px
    upscaler = _build_upscaler(args)
    with progress("upscaling", then="finishing", quiet=args.json) as report:
        table = upscale_table(
            args.data,
            args.out,
            upscaler=upscaler,
            splits=[name.strip() for name in args.splits.split(",")],
            px=image_px * args.factor if args.factor else None,
            report=report,
        )
    answer(table, as_json=args.json)
    return 0


def _build_upscaler(args: argparse.Namespace) -> "Upscaler":
    from spaces.errors import UsageError
    from trainables.data.upscale import ModelUpscaler, Resampler
    from trainables.device import check_device

    if args.model is None:
        if args.device != "cpu":
            raise UsageError(f"--device must stand beside --model, got {args.device!r} alone; resampling needs none")
        return Resampler(args.factor or 2)
    return ModelUpscaler(args.model, device=check_device(args.device))


def _renaming(text: str) -> tuple[str, str]:
    """`A=B` as a pair of names."""
    old, sign, new = (part.strip() for part in text.partition("="))
    if not old or not sign or not new:
        raise argparse.ArgumentTypeError(f"must be a class, = and another, such as contempt=other, got {text!r}")
    return old, new
