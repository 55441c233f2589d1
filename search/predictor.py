"""The exported ensemble's own code: MLflow copies this file into the artifact and runs it there.

It imports nothing of affectune, so that the artifact loads where only mlflow, torch, timm and pillow are installed.
The decoding repeats `trainables/data/decode.py`; a test holds the two equal.
"""

import base64
import hashlib
import importlib
import importlib.util
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from mlflow.pyfunc.model import PythonModel
from PIL import Image, ImageOps
from safetensors.torch import load_file

BATCH_SIZE = 64
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 100_000_000

DecodedAs = tuple[int, int]
"""Side in pixels and channels of a decoded image; networks that agree on it share the decoding."""


class Network:
    """One network of the ensemble, with what it needs to see a face as it did in training.

    Attributes:
        votes: whose votes it gives: `member`, `weight`, and `space`, whether a member's networks are mixed by their
            probabilities or by their logits.
    """

    def __init__(self, folder: Path, entry: dict[str, Any], classes: list[str], code: Any) -> None:
        self.votes: list[dict[str, Any]] = entry["votes"]
        self.decoded_as: DecodedAs = (entry["table_px"], entry["channels"])
        self.image_px: int = entry["image_px"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.own_classes: tuple[str, ...] = tuple(entry["classes"])
        self.columns = [self.own_classes.index(name) for name in classes]
        mean, std = (torch.tensor(entry[name], device=self.device) for name in ("mean", "std"))
        self.factors = (1.0 / (255.0 * std)).repeat(self.image_px)  # of one row of pixels, [px * 3]
        self.offsets = (-mean / std).repeat(self.image_px)
        self.looks: dict[str, Any] = {"mirror": entry["mirror"], "shift_px": entry["shift_px"]}
        self.code = code
        rule = entry["hand_rule"]
        self.hand_rule = code.answers.HandRuleByName(**rule) if rule else None
        self.module = code.network.ExpressionNetwork(
            entry["backbone"], n_classes=len(self.own_classes), design=code.design.Design(**entry["design"])
        )
        self.module.load_state_dict(load_file(folder / entry["file"]))
        self.module.eval().to(self.device).to(memory_format=torch.channels_last)

    def logits(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Logits of decoded faces, [batch, px, px, channels] to [batch, classes of the ensemble]."""
        batch = torch.from_numpy(np.array(faces)).to(self.device).float()  # [batch, px, px, channels]
        if batch.shape[2] != self.image_px:
            size = (self.image_px, self.image_px)
            maps = batch.permute(0, 3, 1, 2)
            maps = torch.nn.functional.interpolate(maps, size, mode="bilinear", antialias=True, align_corners=False)
            batch = maps.permute(0, 2, 3, 1)
        # As in training to the last bit: some networks make much of the smallest difference.
        rows = batch.expand(-1, -1, -1, 3).reshape(len(batch), self.image_px, -1)
        inputs = torch.addcmul(self.offsets, rows, self.factors).view(len(batch), self.image_px, self.image_px, 3)
        outputs = self.code.answers.answer(self.module, inputs.permute(0, 3, 1, 2), **self.looks)
        logits = self.code.answers.decide(outputs, self.hand_rule, self.own_classes)
        return np.asarray(logits[:, self.columns].double().cpu().numpy(), dtype=np.float64)


class EnsemblePredictor(PythonModel):
    """Weighted soft vote of networks on encoded images.

    Attributes:
        classes: names, in the order of the probabilities.
        networks: the voters; the weights of all their votes sum to 1.
    """

    classes: list[str]
    networks: list[Network]

    def load_context(self, context: Any) -> None:
        """Read members.json and the weights beside it."""
        folder = Path(context.artifacts["ensemble"])
        members = json.loads((folder / "members.json").read_text(encoding="utf-8"))
        code = _load_code(folder / "architectures")
        self.classes = members["classes"]
        self.networks = [Network(folder, entry, self.classes, code) for entry in members["networks"]]

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Name the expression in each image.

        Args:
            context: not used.
            model_input: a column `image` of encoded images (JPEG, PNG, ...), as bytes or as base64 text; a list of
                them will do.
            params: not used.

        Returns:
            A row an image: `expression`, its `probability`, and the probability of each class under its name.

        Raises:
            ValueError: there is no such column, or an image can't be read (its row is named).
        """
        images, index = _images_of(model_input)
        probs = np.concatenate([np.zeros((0, len(self.classes))), *self._iter_probs(images)])
        best = probs.argmax(axis=1)
        table = {
            "expression": [self.classes[i] for i in best],
            "probability": probs[np.arange(len(best)), best],
            **{name: probs[:, column] for column, name in enumerate(self.classes)},
        }
        return pd.DataFrame(table, index=index)

    def predict_decoded(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Class probabilities of faces that are already arrays, [n, px, px, 1 or 3] to [n, classes]."""
        batches = [
            self._vote({size: _resize_all(faces[start : start + BATCH_SIZE], size) for size in self._sizes()})
            for start in range(0, len(faces), BATCH_SIZE)
        ]
        return np.concatenate([np.zeros((0, len(self.classes))), *batches])

    def _iter_probs(self, images: list[Any]) -> Iterator[npt.NDArray[np.float64]]:
        for start in range(0, len(images), BATCH_SIZE):
            opened = [_open(value, start + row) for row, value in enumerate(images[start : start + BATCH_SIZE])]
            yield self._vote({size: np.stack([_to_array(image, size) for image in opened]) for size in self._sizes()})

    def _vote(self, faces: dict[DecodedAs, npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
        total: npt.NDArray[np.float64] | float = 0.0
        mixed: dict[str, tuple[float, Any]] = {}  # members whose logits are mixed, to their weight and weighted logits
        for network in self.networks:
            with torch.inference_mode():
                logits = network.logits(faces[network.decoded_as])
            for vote in network.votes:
                if vote["space"] == "probs":
                    total = total + vote["weight"] * _softmax(logits)
                else:
                    weight, so_far = mixed.get(vote["member"], (0.0, 0.0))
                    mixed[vote["member"]] = (weight + vote["weight"], so_far + vote["weight"] * logits)
        for weight, weighted in mixed.values():
            total = total + weight * _softmax(weighted / weight)
        return np.asarray(total, dtype=np.float64)

    def _sizes(self) -> set[DecodedAs]:
        return {network.decoded_as for network in self.networks}


class _Code:
    """The modules of the networks' code."""

    def __init__(self, name: str) -> None:
        self.answers, self.design, self.network = (
            importlib.import_module(f"{name}.{module}") for module in ("answers", "design", "network")
        )


def _load_code(folder: Path) -> _Code:
    """The networks' code, which travels beside their weights, under a name that no installed package has."""
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.glob("*.py")))).hexdigest()
    name = f"affectune_networks_{digest[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise ValueError(f"the networks' code must stand beside their weights, got none: {folder}")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a model's folder stays as it was exported
    try:
        return _Code(name)
    finally:
        sys.dont_write_bytecode = writes


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float64)


def _images_of(model_input: Any) -> tuple[list[Any], Any]:
    """The images, and the index that the answer's rows shall have."""
    if isinstance(model_input, pd.DataFrame):
        if "image" not in model_input.columns:
            raise ValueError(f"input must have a column 'image', got {', '.join(map(str, model_input.columns))}")
        return model_input["image"].tolist(), model_input.index
    return list(model_input), None


def _open(value: Any, row: int) -> Image.Image:
    """Decode one image, turned as its EXIF data says."""
    try:
        encoded = base64.b64decode(value) if isinstance(value, str) else bytes(value)
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
        return _to_eight_bits(ImageOps.exif_transpose(image))
    except Exception as error:  # pillow raises whatever a broken file makes its decoders raise
        raise ValueError(f"image must be an encoded picture such as JPEG or PNG, got none: row {row}") from error


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Pillow's own conversion of 16-bit grey cuts everything above 255 off."""
    image.load()
    if not image.mode.startswith("I"):
        return image
    values = np.clip(np.asarray(image, dtype=np.int32), 0, 65535)
    return Image.fromarray((values // 257).astype(np.uint8))


def _to_array(image: Image.Image, size: DecodedAs) -> npt.NDArray[np.uint8]:
    """[px, px, channels]"""
    image_px, channels = size
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (image_px, image_px):
        image = image.resize((image_px, image_px), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(image_px, image_px, channels)


def _resize_all(faces: npt.NDArray[np.uint8], size: DecodedAs) -> npt.NDArray[np.uint8]:
    if faces.shape[1:] == (size[0], size[0], size[1]):
        return faces
    pictures = [Image.fromarray(face[..., 0] if face.shape[2] == 1 else face) for face in faces]
    return np.stack([_to_array(picture, size) for picture in pictures])


mlflow.models.set_model(EnsemblePredictor())
