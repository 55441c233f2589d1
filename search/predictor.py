"""The exported ensemble's own code: MLflow copies this file into the artifact and runs it there.

It imports nothing of affectune, so that the artifact loads where only mlflow, torch, timm and pillow are installed.
The decoding repeats `trainables/data/decode.py`; a test holds the two equal.
"""

import base64
import binascii
import hashlib
import importlib
import importlib.util
import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel
from PIL import Image, ImageOps
from safetensors.torch import load_file

BATCH_SIZE = 64
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 100_000_000

MAX_PX, MAX_WIDTH, MAX_HEADS = 4096, 8192, 64
"""Of networks that can be built: side of their images, channels of a layer, heads of attention."""
MAX_TEMPERATURE = 1e6

DecodedAs = tuple[int, int]
"""Side in pixels and channels of a decoded image."""


class EnsemblePredictor(PythonModel):
    """The ensemble on encoded images.

    Attributes:
        classes: names, in the order of the probabilities.
        network: of `architectures/ensemble.py`, on a GPU where there is one.
    """

    classes: list[str]
    network: Any

    def load_context(self, context: Any) -> None:
        """Read members.json and the weights beside it."""
        folder = Path(context.artifacts["ensemble"])
        members = json.loads((folder / "members.json").read_text(encoding="utf-8"))
        try:
            _check_members(members)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"members.json must be as it was exported, got another ({error!r})") from error
        network = _load_code(folder / "architectures").build_ensemble(members, lambda name: load_file(folder / name))
        self.classes = members["classes"]
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self._device).to(memory_format=torch.channels_last)

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
            UnusableInputError: there is no such column, or an image can't be read (its row is named).
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
            self._vote([_resize_all(faces[start : start + BATCH_SIZE], size) for size in self.network.decoded_as])
            for start in range(0, len(faces), BATCH_SIZE)
        ]
        return np.concatenate([np.zeros((0, len(self.classes))), *batches])

    def _iter_probs(self, images: list[Any]) -> Iterator[npt.NDArray[np.float64]]:
        for start in range(0, len(images), BATCH_SIZE):
            opened = [_open(value, start + row) for row, value in enumerate(images[start : start + BATCH_SIZE])]
            sizes = self.network.decoded_as
            yield self._vote([np.stack([_to_array(image, size) for image in opened]) for size in sizes])

    @torch.inference_mode()
    def _vote(self, faces: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
        """The same faces in each of the sizes that the network wants, to probabilities [batch, classes]."""
        tensors = [torch.from_numpy(np.array(decoded)).to(self._device) for decoded in faces]
        return np.asarray(self.network(tensors).cpu().numpy(), dtype=np.float64)


def _check_members(members: Any) -> None:
    """See that a network can be built of members.json, and that its answers will be probabilities.

    Raises:
        ValueError: a number is out of its range, or two parts do not fit together.
        AttributeError, KeyError, TypeError: a part is missing, or is of another type.
    """
    classes, entries = members["classes"], members["networks"]
    _check(len(set(classes)) == len(classes) > 1 and all(isinstance(each, str) for each in classes), "classes", classes)
    _check(0 < members["temperature"] <= MAX_TEMPERATURE, "temperature", members["temperature"])
    _check(bool(entries), "networks", entries)
    files: list[str] = []
    for entry in entries:
        _check_entry(entry, classes=classes, files=files)
        files.append(entry["file"])
    weights = [vote["weight"] for entry in entries for vote in entry["votes"]]
    _check(all(0 <= weight <= 1 for weight in weights) and abs(sum(weights) - 1) < 1e-6, "weights of votes", weights)


def _check_entry(entry: Any, *, classes: list[str], files: list[str]) -> None:
    """One network of members.json; `files` are those of the networks before it."""
    file, source = entry["file"], entry["encoder_from"]
    _check(Path(file).name == file and file not in files and file.endswith(".safetensors"), "file", file)
    _check(source is None or source in files, "encoder_from", source)
    _check(set(classes) <= set(entry["classes"]), "classes of a network", entry["classes"])
    for name in ("image_px", "table_px"):
        _check(_is_whole(entry[name]) and 1 <= entry[name] <= MAX_PX, name, entry[name])
    _check(_is_whole(entry["channels"]) and entry["channels"] in (1, 3), "channels", entry["channels"])
    _check(_is_whole(entry["shift_px"]) and 0 <= entry["shift_px"] < entry["image_px"], "shift_px", entry)
    _check(len(entry["mean"]) == 3 and all(map(math.isfinite, entry["mean"])), "mean", entry["mean"])
    _check(len(entry["std"]) == 3 and all(0 < std < math.inf for std in entry["std"]), "std", entry["std"])
    _check(entry["design"]["attention_heads"] <= MAX_HEADS, "attention_heads", entry["design"])
    numbers = [number for number in entry["design"].values() if isinstance(number, int)]
    _check(all(0 <= number <= MAX_WIDTH for number in numbers), "numbers of a design", numbers)
    backbones = [entry["backbone"], entry["design"]["appearance_backbone"], entry["design"]["hand_backbone"]]
    _check(all(":" not in each for each in backbones), "backbones", backbones)  # timm would fetch one from elsewhere
    spaces = [vote["space"] for vote in entry["votes"]]
    _check(set(spaces) <= {"probs", "logits"}, "spaces of votes", spaces)


def _is_whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _check(holds: bool, name: str, got: Any) -> None:
    if not holds:
        raise ValueError(f"{name} must be as they were exported, got {str(got)[:200]}: members.json")


def _load_code(folder: Path) -> Any:
    """The module `ensemble` of the code beside the weights, under a name that no installed package has."""
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
        return importlib.import_module(f"{name}.ensemble")
    finally:
        sys.dont_write_bytecode = writes


class UnusableInputError(MlflowException, ValueError):
    """What was asked can't be answered: a ValueError here, status 400 with its one sentence from MLflow's server."""

    def serialize_as_json(self) -> str:
        """The body of that answer; MLflow's own would quote the request, which is somebody's face."""
        return json.dumps({"error_code": self.error_code, "message": str(self)})


def _images_of(model_input: Any) -> tuple[list[Any], Any]:
    """The images, and the index that the answer's rows shall have."""
    if isinstance(model_input, pd.DataFrame):
        if "image" not in model_input.columns:
            names = ", ".join(map(str, model_input.columns)) or "none"
            raise UnusableInputError.invalid_parameter_value(f"input must have a column 'image', got {names}")
        return model_input["image"].tolist(), model_input.index
    return list(model_input), None


def _open(value: Any, row: int) -> Image.Image:
    """Decode one image, turned as its EXIF data says."""
    try:
        image = Image.open(io.BytesIO(_to_bytes(value)), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
        return _to_eight_bits(ImageOps.exif_transpose(image))
    except Exception as error:  # pillow raises whatever a broken file makes its decoders raise
        sentence = f"image must be an encoded picture such as JPEG or PNG, got none: row {row}"
        raise UnusableInputError.invalid_parameter_value(sentence) from error


def _to_bytes(value: Any) -> bytes:
    """Text is base64; so are bytes that hold nothing else, which is what MLflow's server makes of `instances`."""
    if isinstance(value, str):
        return base64.b64decode(value)
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return bytes(value)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Pillow's own conversion of 16-bit grey cuts everything above 255 off."""
    image.load()
    if image.mode == "LAB":  # which PIL brings to grey by no other way
        return image.convert("RGB")
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
