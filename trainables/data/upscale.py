"""Super-resolution: a face table whose training faces were made larger by a network, and the others by resampling.

Savchenko 2022 (4th ABAW) does so with the synthetic training images alone; super-resolved validation images made the
score worse. The network is the user's own, as a TorchScript file; without one, all faces are resampled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from spaces.errors import ConfigError, ModelError, UsageError, near_miss
from trainables.data.decoding import Report
from trainables.data.ingest import PX_RANGE
from trainables.data.labels import LABEL_COLUMNS
from trainables.data.resampling import FILTERS, Filter, match_channels, resample_images
from trainables.data.table import SPLITS, Faces, FaceTable, Split, SplitName, open_table, write_table
from trainables.outputs import check_new_folder

PLAIN: Filter = "lanczos"
"""How faces are brought to the new size that are not super-resolved."""

PROBE_PX = 32

_BATCH_BYTES = 1 << 25


class Upscaler(Protocol):
    """Makes faces larger by a whole factor; `str` of it says what it is, for the table's notes."""

    @property
    def factor(self) -> int:
        """Side of the answer over side of the image."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Images [n, height, width, channels] as [n, height * factor, width * factor, channels]."""


@dataclass(frozen=True)
class Resampler:
    """Plain interpolation, which invents nothing."""

    factor: int
    filter: Filter = PLAIN

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ConfigError(f"factor must be at least 1, got {self.factor}")
        if self.filter not in FILTERS:
            raise ConfigError(f"filter must be a known one, got {self.filter!r}{near_miss(self.filter, FILTERS)}")

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Images [n, px, px, channels] as [n, px * factor, px * factor, channels]."""
        return resample_images(images, image_px=images.shape[1] * self.factor, by=self.filter)

    def __str__(self) -> str:
        return f"{self.filter} resampling"


class ModelUpscaler:
    """A super-resolution network in a TorchScript file: float [n, 3, h, w] in 0..1 in, [n, 3, h * f, w * f] out."""

    def __init__(self, path: Path, *, device: torch.device | str = "cpu", batch_size: int = 16) -> None:
        """Load the network, and find its factor by an image of 32 pixels.

        Args:
            batch_size: images that go through the network at once.

        Raises:
            ModelError: the file is no TorchScript, or its answer to the image is not one a whole number of times as
                large.
        """
        self._path = path
        self._device = torch.device(device)
        self._batch_size = batch_size
        self._network = _load_network(path, self._device)
        self.factor = self._find_factor()

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Images [n, h, w, 1 or 3] as [n, h * factor, w * factor, 1 or 3]; grey goes in as colour and is averaged.

        Raises:
            ModelError: the network's answer is not of that size, or not finite.
        """
        n, height, width, channels = images.shape
        larger = np.empty((n, height * self.factor, width * self.factor, channels), np.uint8)
        for start in range(0, n, self._batch_size):
            batch = match_channels(images[start : start + self._batch_size], 3)
            answer = self._answer(batch)
            wanted = (len(batch), 3, *larger.shape[1:3])
            if tuple(answer.shape) != wanted:
                raise self._complaint(f"must answer {list(wanted[1:])}", f"{list(answer.shape[1:])}")
            if not torch.isfinite(answer).all():
                raise self._complaint("must answer finite numbers", "others")
            answer = answer.mean(dim=1, keepdim=True) if channels == 1 else answer
            pixels = (answer.clamp(0, 1) * 255).round().to(torch.uint8)  # [batch, channels, h * f, w * f]
            larger[start : start + len(batch)] = pixels.permute(0, 2, 3, 1).cpu().numpy()
        return larger

    def __str__(self) -> str:
        return self._path.name

    def _find_factor(self) -> int:
        answer = self._answer(np.full((1, PROBE_PX, PROBE_PX, 3), 128, np.uint8))
        shape = tuple(answer.shape)
        factor = shape[-1] // PROBE_PX if shape else 0
        if factor < 1 or shape != (1, 3, PROBE_PX * factor, PROBE_PX * factor):
            rule = f"must answer an image [1, 3, {PROBE_PX}, {PROBE_PX}] with one a whole number of times as large"
            raise self._complaint(rule, f"{list(shape)}")
        return factor

    def _answer(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Colour images [n, h, w, 3] through the network; whatever it answers, as float32."""
        batch = torch.tensor(images, device=self._device).permute(0, 3, 1, 2).float() / 255  # [n, 3, h, w]
        try:
            with torch.inference_mode():
                answer = self._network(batch)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise self._complaint(f"must take images {list(batch.shape)}", f"an error ({reason})") from error
        if not isinstance(answer, torch.Tensor):
            raise self._complaint("must answer one tensor", type(answer).__name__)
        return answer.float()

    def _complaint(self, rule: str, got: str) -> ModelError:
        return ModelError(f"super-resolution network {rule}, got {got}: {self._path}")


def upscale_table(
    table: Path,
    out: Path,
    *,
    upscaler: Upscaler,
    splits: Sequence[str] = ("train",),
    px: int | None = None,
    report: Report = lambda done, total: None,
) -> FaceTable:
    """Write a table again with larger faces. Labels, people and ids stay; landmarks are shares of the side anyway.

    Args:
        out: a new or empty folder.
        upscaler: makes the faces of `splits` larger; those of the others are resampled to the same size.
        px: side of the new images, to which the upscaler's answers are resampled; factor times the table's when None.
        report: told how many faces of how many are written.

    Raises:
        UsageError: a split is unknown, or the size is not above the table's or out of range.
        DataError: the folder is no face table.
        ModelError: the network fails on a face.
        OutputError: `out` holds something already, or can't be written.
    """
    _check_splits(splits)
    check_new_folder(out)
    opened = open_table(table)
    old_px = opened.info.image_px
    new_px = px or old_px * upscaler.factor
    if not old_px < new_px <= PX_RANGE[1]:
        rule = f"upscaled faces must have more than the table's {old_px} px and at most {PX_RANGE[1]}"
        raise UsageError(f"{rule}, got {new_px}: {table}")
    batches = {
        name: _iter_larger(opened, name, upscaler=upscaler if name in splits else None, px=new_px, report=report)
        for name in SPLITS
    }
    others = " and ".join(name for name in SPLITS if name not in splits and opened.info.rows[name])
    plainly = f", {others} resampled plainly ({PLAIN})" if others else ""
    note = f"{' and '.join(splits)} made larger by {upscaler}{plainly}: from {old_px} to {new_px} px"
    return write_table(
        out,
        splits=batches,
        classes=opened.info.classes,
        sources=opened.info.sources,
        notes=[*opened.info.notes, note],
    )


def _load_network(path: Path, device: torch.device) -> Any:
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing there"
        raise ModelError(f"super-resolution network must be a TorchScript file, got {what}: {path}")
    try:
        network = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        rule = "super-resolution network must be a TorchScript file, got another one"
        raise ModelError(f"{rule}: {path}; torch.jit.trace(network, image).save(FILE) makes one") from error
    return network.eval()


def _check_splits(splits: Sequence[str]) -> None:
    for name in splits:
        if name not in SPLITS:
            raise UsageError(f"--splits must name splits of a table, got {name!r}{near_miss(name, SPLITS)}")
    if not splits:
        raise UsageError("--splits must name a split at least, got none")


def _iter_larger(
    table: FaceTable, name: SplitName, *, upscaler: Upscaler | None, px: int, report: Report
) -> Iterator[Faces]:
    """The faces of a split at the new size, by the upscaler or, without one, plainly."""
    rows = table.info.rows
    done, total = sum(rows[earlier] for earlier in SPLITS[: SPLITS.index(name)]), sum(rows.values())
    # Faces of the sealed test split are copied into a test split alone; nothing is learnt or chosen from them.
    split = table.sealed_test() if name == "test" else table.split(name)
    for faces in _iter_batches(split, px) if split is not None else ():
        images = faces.images if upscaler is None else upscaler(faces.images)
        yield replace(faces, images=resample_images(images, image_px=px, by=PLAIN))
        done += len(faces)
        report(done, total)


def _iter_batches(split: Split, px: int) -> Iterator[Faces]:
    """The faces of a split as they are, in batches that are small at the new size too."""
    step = max(1, _BATCH_BYTES // (3 * px * px))
    columns = {name: split.column(name) for name in LABEL_COLUMNS}
    for start in range(0, len(split), step):
        part = slice(start, start + step)
        yield Faces(
            images=split.images[part],
            expression=split.expression[part],
            sample_ids=split.sample_ids[part],
            subjects=split.subjects[part],
            **{name: values[part] for name, values in columns.items() if values is not None},
        )
