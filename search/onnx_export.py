"""An exported ensemble as one ONNX graph: preprocessing, networks, weights and temperature inside.

The graph takes images as arrays and does to them, to the bit, what Pillow does in the artifact's predictor, so that
both give the same answers. Before it stands anywhere it is asked in a process that has onnxruntime and NumPy alone.
"""

import io
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from search.evaluate import load_ensemble
from spaces.errors import ModelError
from trainables.models.architectures.ensemble import DecodedAs, EnsembleNetwork, build_ensemble
from trainables.outputs import new_file

TOLERANCE = 1e-4
"""Largest difference between the graph's probabilities and the predictor's."""

GREY_SHARES = (19595, 38470, 7471)
"""Of red, green and blue in grey, in 65,536ths, as Pillow mixes them (ITU-R 601-2)."""

STEPS = 2**22
"""In which Pillow counts the weights of pixels when it resizes images of 8 bits."""

LARGEST_BYTES = 2**31 - 2**22
"""Of an ensemble's weights: one ONNX file holds no more than 2 GiB, and some of that is no weight."""

TAKES = (
    "uint8 [n, height, width, 3], RGB: images cropped to one face, upright, of any size that all of a batch share; a "
    "grey one has three equal channels. Nothing is to be resized or normalised before."
)

NOISY = ("torch.onnx", "torch.export", "torch.fx", "torch._dynamo", "onnxscript", "onnx_ir")
"""Loggers with news for the developers of networks and exporters."""

ASK = """
import sys
import numpy
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
batches = numpy.load(sys.argv[2])
said = [session.run(["probabilities", "label"], {"images": batches[name]}) for name in batches.files]
probs, labels = (numpy.concatenate(parts) for parts in zip(*said))
numpy.savez(sys.argv[3], probs=probs, labels=labels)
"""


class Decoding(nn.Module):
    """From images of any size to what networks are fed, as `search/predictor.py` makes it with Pillow."""

    def __init__(self, decoded_as: DecodedAs) -> None:
        super().__init__()
        self.px, self.channels = decoded_as

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [batch, height, width, 3] to uint8 [batch, px, px, channels]."""
        maps = images.permute(0, 3, 1, 2).double()  # [batch, 3, height, width]; holds all sums below exactly
        if self.channels == 1:
            shares = torch.tensor(GREY_SHARES, dtype=torch.float64).view(1, 3, 1, 1)
            maps = ((maps * shares).sum(dim=1, keepdim=True) / 2**16 + 0.5).floor()
        height, width = maps.shape[2:]
        rows, columns = _in_steps(height, self.px), _in_steps(width, self.px)
        tall, wide = (torch.scalar_tensor(side, dtype=torch.float64) - self.px for side in (height, width))
        # Pillow begins with the rows where the height loses more than twice what the width does (since 13.0).
        resized: Any = torch.cond(tall > 2 * wide.clamp(min=0), _rows_first, _columns_first, (maps, rows, columns))
        decoded: torch.Tensor = resized.permute(0, 2, 3, 1).to(torch.uint8)
        return decoded


class Graph(nn.Module):
    """All of it: images to probabilities and labels."""

    def __init__(self, ensemble: EnsembleNetwork) -> None:
        super().__init__()
        self.decodings = nn.ModuleList(Decoding(size) for size in ensemble.decoded_as)
        self.ensemble = ensemble

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 [batch, height, width, 3] to float32 [batch, classes] and int64 [batch]."""
        probs = self.ensemble([decoding(images) for decoding in self.decodings])
        return probs.float(), probs.argmax(dim=1)


def write_onnx(artifact: Path, out: Path) -> None:
    """Write an exported ensemble as one ONNX graph that answers as its predictor does.

    Args:
        artifact: folder of `search.export.write_artifact`.
        out: the file; it appears when the graph has been compared with the predictor.

    Raises:
        ModelError: the artifact can't be read or is too large for one file, or its graph can't be made or answers
            otherwise.
        OutputError: the file can't be written.
    """
    folder = artifact / "artifacts" / "ensemble"
    try:
        members = json.loads((folder / "members.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model must be an ensemble that 'affectune export' wrote, got another: {artifact}") from error
    ensemble = build_ensemble(members, lambda name: load_file(folder / name))
    sizes = [px for px, _ in ensemble.decoded_as]
    _check_size(ensemble, artifact)
    with new_file(out) as staging:
        _export(ensemble, staging, members=members, artifact=artifact)
        _compare(staging, _draw_batches(sizes), artifact=artifact)


def resize_by_matrices(maps: torch.Tensor, px: int) -> torch.Tensor:
    """PyTorch's antialiased bilinear resizing as two products, which every runtime understands alike.

    Args:
        maps: [batch, channels, height, width].
        px: the new side.
    """
    rows, columns = (_triangles(side, px).to(maps.dtype) for side in maps.shape[2:])
    return rows @ (maps @ columns.T)


def _rows_first(maps: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return _to_whole(_to_whole(rows @ maps) @ columns.T)


def _columns_first(maps: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return _to_whole(rows @ _to_whole(maps @ columns.T))


def _to_whole(sums: torch.Tensor) -> torch.Tensor:
    """Sums of pixels times steps, to 0..255."""
    return (sums / STEPS + 0.5).floor().clamp(0, 255)


def _in_steps(n_pixels: int, px: int) -> torch.Tensor:
    """`_triangles` in whole steps, as Pillow rounds them."""
    return (_triangles(n_pixels, px) * STEPS + 0.5).floor()


def _triangles(n_pixels: int, px: int) -> torch.Tensor:
    """How much of each old pixel is in each of `px` new ones: float64 [px, old pixels], rows summing to 1.

    A triangle over the old ones, as wide as two new ones or, where those are the smaller, as two old ones: the filter
    that Pillow calls bilinear and PyTorch antialiased bilinear.
    """
    scale = torch.scalar_tensor(n_pixels, dtype=torch.float64) / px
    centres = (torch.arange(px, dtype=torch.float64) + 0.5) * scale
    distances = torch.arange(n_pixels, dtype=torch.float64) - centres[:, None] + 0.5
    heights = (1 - (distances / scale.clamp(min=1)).abs()).clamp(min=0)
    return heights / heights.sum(dim=1, keepdim=True)


def _check_size(ensemble: EnsembleNetwork, artifact: Path) -> None:
    n_bytes = sum(tensor.nbytes for tensor in (*ensemble.parameters(), *ensemble.buffers()))
    if n_bytes > LARGEST_BYTES:
        raise ModelError(f"ONNX graph must hold less than 2 GiB of weights, got {n_bytes / 2**30:.1f} GiB: {artifact}")


def _export(ensemble: EnsembleNetwork, out: Path, *, members: Mapping[str, Any], artifact: Path) -> None:
    import onnx

    ensemble.faces_at_once = None  # all looks as one batch, or the graph would hold each network once a look
    for crowd in ensemble.crowds:
        crowd.inputs.resize = resize_by_matrices
    try:
        proto = _to_proto(Graph(ensemble).eval())
    except Exception as error:  # torch, its exporter and its networks fail in their own ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"ensemble must fit into an ONNX graph, got {reason}: {artifact}") from error
    _forget_origin(proto.graph)
    texts = {"classes": json.dumps(members["classes"]), "format": str(members["format"]), "images": TAKES}
    onnx.helper.set_model_props(proto, {f"affectune.{name}": text for name, text in texts.items()})
    onnx.save(proto, str(out))


def _to_proto(graph: Graph) -> Any:
    any_size = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    images = torch.zeros(3, 50, 41, 3, dtype=torch.uint8)
    with _quiet(), torch.no_grad():
        traced = torch.export.export(graph, (images,), dynamic_shapes=(any_size,))
        program: Any = torch.onnx.export(
            traced, input_names=["images"], output_names=["probabilities", "label"], dynamo=True, verbose=False
        )
    return program.model_proto


def _forget_origin(graph: Any) -> None:
    """Take out what the exporter notes of each step: the files and lines of this machine's code that made it."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("metadata_props")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _forget_origin(attribute.g)


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _draw_batches(sizes: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
    """Blotches over gradients, in the sizes that networks were trained on and in others, so that resizing matters."""
    generator = np.random.default_rng(0)
    shapes = {(px, px) for px in sizes}
    for px in (min(sizes), max(sizes)):
        shapes |= {(px // 2, px // 2 + 1), (2 * px + 5, px), (px, 3 * px), (5 * px, 2 * px), (3 * px + 1, 2 * px + 1)}
    return [np.stack([_draw_image(height, width, generator) for _ in range(3)]) for height, width in sorted(shapes)]


def _draw_image(height: int, width: int, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    blotches = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    gradient = np.linspace(0, 255, width)[None, :, None]
    return (0.8 * blotches + 0.2 * gradient + generator.uniform(-8, 8, blotches.shape)).clip(0, 255).astype(np.uint8)


def _compare(graph: Path, batches: Sequence[npt.NDArray[np.uint8]], *, artifact: Path) -> None:
    """Raise ModelError where the graph, asked elsewhere, does not say of images what the predictor says of PNGs."""
    probs, labels = _ask_elsewhere(graph, batches)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # a GPU's quick products round to 1e-3
        expected, _ = load_ensemble(artifact).predict_encoded([_to_png(face) for faces in batches for face in faces])
    difference = float(np.abs(probs - expected).max())
    if not difference < TOLERANCE:
        raise ModelError(f"ONNX graph must answer within {TOLERANCE} of the model, got {difference:.2g}: {artifact}")
    lost = float((expected.max(axis=1) - expected[np.arange(len(labels)), labels]).max())
    if not lost < 2 * TOLERANCE:
        raise ModelError(f"ONNX graph must name the most probable class, got one {lost:.2g} below it: {artifact}")


def _ask_elsewhere(
    graph: Path, batches: Sequence[npt.NDArray[np.uint8]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    with tempfile.TemporaryDirectory(prefix="affectune-") as scratch:
        fixture, answers = Path(scratch) / "images.npz", Path(scratch) / "answers.npz"
        np.savez(fixture, *batches)
        command = [sys.executable, "-I", "-c", ASK, str(graph.absolute()), str(fixture), str(answers)]
        ended = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if ended.returncode:
            reason = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
            raise ModelError(f"ONNX graph must run in a process of its own, got {reason}: {graph}")
        with np.load(answers) as said:
            return said["probs"], said["labels"]


def _to_png(face: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "PNG")
    return buffer.getvalue()
