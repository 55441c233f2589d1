"""`affectune predict` and `affectune evaluate`: what an exported ensemble says, and how often it is right."""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.commands.options import class_names

if TYPE_CHECKING:
    from search.evaluation import Evaluation


def register(subparsers: Any) -> None:
    """Add the two commands."""
    predict = subparsers.add_parser("predict", help="classes and probabilities of images")
    _add_model(predict)
    predict.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image file, or a folder of them")
    predict.add_argument("--json", action="store_true", help="print one JSON document")
    predict.set_defaults(run=run_predict)

    evaluate = subparsers.add_parser("evaluate", help="macro-F1, per class, confusion matrix and interval")
    _add_model(evaluate)
    evaluate.add_argument(
        "--source",
        metavar="SRC",
        required=True,
        help="class folders, Parquet, CSV, or a face table (a folder or a URI), of which the sealed test split is read",
    )
    evaluate.add_argument("--image-column", metavar="C", help="column of encoded images or paths")
    evaluate.add_argument("--label-column", metavar="C", help="column of class names")
    evaluate.add_argument("--subject-column", metavar="C", help="column of people, the unit of the interval")
    evaluate.add_argument(
        "--classes", metavar="a,b,c", type=class_names, help="names of labels that are numbers, in their order"
    )
    evaluate.add_argument("--split", choices=("train", "valid", "test"), help="only these rows, where SRC tells them")
    evaluate.add_argument(
        "--on-bad", choices=("fail", "skip"), default="fail", help="what an unreadable image does (default: fail)"
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON document")
    evaluate.set_defaults(run=run_evaluate)


def run_predict(args: argparse.Namespace) -> int:
    """Name the expression in each image."""
    from search.progress import waiting

    files = _image_files(args.images)
    with waiting("loading the model"):
        from search.evaluate import load_ensemble, predict_files

        ensemble = load_ensemble(args.model)
    with _progress("predicting", len(files)) as progress:
        probs = predict_files(ensemble, files, progress=progress)
    predictions = [
        {
            "image": str(file),
            "expression": ensemble.classes[int(row.argmax())],
            "probability": float(row.max()),
            "probabilities": dict(zip(ensemble.classes, row.tolist(), strict=True)),
        }
        for file, row in zip(files, probs, strict=True)
    ]
    if args.json:
        print(json.dumps({"classes": list(ensemble.classes), "predictions": predictions}, indent=2))
    else:
        _print_predictions(predictions)
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    """Judge a model on labelled faces."""
    from search.named_table import is_table

    evaluation = _evaluate_table(args) if is_table(args.source) else _evaluate_source(args)
    if args.json:
        print(json.dumps(evaluation.to_document(), indent=2))
    else:
        _print_evaluation(evaluation)
    return 0


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder of 'affectune export', or a URI such as models:/faces/1")


def _image_files(paths: list[Path]) -> list[Path]:
    """The images named, and those in the folders named."""
    from spaces.errors import DataError
    from trainables.data.decode import SUFFIXES

    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"image must exist, got nothing there: {path}")
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not found:
            raise DataError(f"folder must hold images ({', '.join(SUFFIXES[:4])}, ...), got none: {path}")
        files += found
    return files


def _evaluate_table(args: argparse.Namespace) -> "Evaluation":
    from search.evaluate import evaluate_table
    from search.named_table import open_named_table
    from spaces.errors import UsageError

    if args.split not in (None, "test"):
        raise UsageError(f"--split must be test where the source is a face table, got {args.split}: {args.source}")
    table = open_named_table(args.source)
    with _progress("evaluating", table.info.rows.get("test", 0)) as progress:
        return evaluate_table(args.model, table, progress=progress)


def _evaluate_source(args: argparse.Namespace) -> "Evaluation":
    from search.evaluate import evaluate_source
    from trainables.data.columns import ColumnNames
    from trainables.data.sources import read_source

    columns = ColumnNames(image=args.image_column, label=args.label_column, subject=args.subject_column)
    source = read_source(Path(args.source), columns)
    with _progress("evaluating", len(source)) as progress:
        return evaluate_source(
            args.model, source, classes=args.classes, split=args.split, on_bad=args.on_bad, progress=progress
        )


@contextmanager
def _progress(title: str, n: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, told how many are done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=n)
        yield lambda done: bar.update(task, completed=done)


def _print_predictions(predictions: list[dict[str, Any]]) -> None:
    from rich.console import Console

    table = _table(["image", "expression"], predictions[0]["probabilities"])
    for prediction in predictions:
        probs = [f"{p:.3f}" for p in prediction["probabilities"].values()]
        table.add_row(prediction["image"], prediction["expression"], *probs)
    Console().print(table)


def _table(texts: Iterable[str], numbers: Iterable[str], *, title: str | None = None) -> Any:
    """Columns of texts, then of numbers; on a narrow screen paths and headings are folded, all else stays whole."""
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, collapse_padding=True, header_style="dim"
    )
    for name in texts:
        table.add_column(name, overflow="fold", no_wrap=name != "image")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold", min_width=5)
    return table


def _print_evaluation(evaluation: "Evaluation") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    interval = evaluation.interval
    console.print(
        f"macro-F1 {evaluation.macro_f1:.4f} (95 % interval {interval.low:.4f} to {interval.high:.4f}, "
        f"by {interval.unit}), accuracy {evaluation.accuracy:.4f}, {evaluation.n:,} faces",
        soft_wrap=True,
    )
    per_class = _table(["class"], ["precision", "recall", "F1", "faces"])
    for name, row in evaluation.per_class().items():
        per_class.add_row(
            name, f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['f1']:.3f}", f"{row['support']:,}"
        )
    confusion = _table(["truth \\ answer"], evaluation.classes, title="confusion matrix")
    for name, counts in zip(evaluation.classes, evaluation.confusion.tolist(), strict=True):
        confusion.add_row(name, *(f"{count:,}" for count in counts))
    for table in (per_class, confusion):
        console.print(table)
    for reason, count in evaluation.left_out.items():
        console.print(f"left out: {count:,} with {reason}")
