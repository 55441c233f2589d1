"""What a person sees of a face table: counts, what is known of the faces, notes, and a few faces in block letters."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainables.data.contact_sheet import sample_rows
from trainables.data.stores import is_uri
from trainables.data.table import SPLITS, FaceTable

_FACE_COLUMNS = 22


def to_document(table: FaceTable) -> dict[str, Any]:
    """The table as JSON values: `dataset.json` and the path."""
    info = table.info
    counts = {split: dict(zip(info.classes, info.class_counts[split], strict=True)) for split in SPLITS}
    return {
        "path": named(table),
        "classes": list(info.classes),
        "image_px": info.image_px,
        "channels": info.channels,
        "mean": list(info.mean),
        "std": list(info.std),
        "rows": info.rows,
        "class_counts": counts,
        "subjects": info.subjects,
        "labels": info.labels,
        "content_hash": info.content_hash,
        "sources": info.sources,
        "notes": info.notes,
    }


def named(table: FaceTable) -> str:
    """A table's folder as it was told, or the URI that it is a copy of."""
    return table.origin if is_uri(table.origin) else str(table.path)


def print_table(table: FaceTable, console: Console) -> None:
    """Counts per class and split, then everything else in a line each. The test split is not opened."""
    info = table.info
    colour = "grey" if info.channels == 1 else "colour"
    total = sum(info.rows.values())
    title = f"{named(table)}: {total:,} faces, {info.image_px} x {info.image_px} px, {colour}"
    console.print(title, style="bold", markup=False, soft_wrap=True)
    counts = Table("class", *SPLITS, box=None, pad_edge=False, header_style="dim")
    for column in counts.columns[1:]:
        column.justify = "right"
    for index, name in enumerate(info.classes):
        counts.add_row(Text(name), *(f"{info.class_counts[split][index]:,}" for split in SPLITS))
    unlabelled = [info.rows[split] - sum(info.class_counts[split]) for split in SPLITS]
    if any(unlabelled):
        counts.add_row("not labelled", *(f"{n:,}" for n in unlabelled))
    counts.add_row("all", *(f"{info.rows[split]:,}" for split in SPLITS), style="bold")
    if any(info.subjects.values()):
        counts.add_row("subjects", *(f"{info.subjects.get(split, 0):,}" for split in SPLITS))
    for label in sorted({name for names in info.labels.values() for name in names}):
        known = (info.labels.get(split, {}).get(label, 0) for split in SPLITS)
        counts.add_row(f"with {label.replace('_', ' ')}", *(f"{n:,}" for n in known))
    console.print(counts)
    numbers = [" ".join(f"{number:.3f}" for number in numbers) for numbers in (info.mean, info.std)]
    lines = [f"mean {numbers[0]}, std {numbers[1]} (training faces, 0..1); content {info.content_hash}"]
    lines += [f"{name} from {source}" for name, source in info.sources.items()]
    for line in (*lines, *info.notes):
        style = "yellow" if line.startswith("warning") else "dim" if line in info.notes else ""
        console.print(line, style=style, markup=False, soft_wrap=True)


def print_faces(table: FaceTable, console: Console) -> None:
    """A training face of each class, side by side, two pixels a letter."""
    train = table.split("train")
    rows = [row for row in sample_rows(train, n_classes=len(table.info.classes), per_class=1) if len(row)]
    per_line = max(1, console.width // (_FACE_COLUMNS + 2))
    for start in range(0, len(rows), per_line):
        chosen = [int(row[0]) for row in rows[start : start + per_line]]
        faces = [_shrink(train.images[row]) for row in chosen]
        names = [table.info.classes[train.expression[row]][:_FACE_COLUMNS] for row in chosen]
        console.print("  ".join(f"{name:<{_FACE_COLUMNS}}" for name in names), markup=False)
        for line in range(0, _FACE_COLUMNS, 2):
            text = Text()
            for face in faces:
                for upper, lower in zip(face[line], face[line + 1], strict=True):
                    text.append("▀", style=f"{_rgb(upper)} on {_rgb(lower)}")
                text.append("  ")
            console.print(text)


def _shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("RGB")
    return np.asarray(picture.resize((_FACE_COLUMNS, _FACE_COLUMNS), Image.Resampling.BOX))


def _rgb(pixel: NDArray[np.uint8]) -> str:
    return f"rgb({pixel[0]},{pixel[1]},{pixel[2]})"
