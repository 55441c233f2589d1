"""The predictor inside the artifact sees a face as the trials saw it."""

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from search.evaluate import LoadedEnsemble, load_ensemble
from spaces.errors import ModelError
from trainables.checkpoint import load_network
from trainables.data.decode import decode_image
from trainables.models.inputs import predict_logits
from trainables.scores import softmax

CLASSES = ("anger", "fear", "happiness")
WEIGHTS = (0.4, 0.3, 0.3)


@pytest.fixture(scope="module")
def ensemble(artifact: Path) -> LoadedEnsemble:
    return load_ensemble(artifact)


@pytest.fixture(scope="module")
def predictor(ensemble: LoadedEnsemble) -> Any:
    """The predictor's own object, as the artifact's copy of search/predictor.py made it."""
    return ensemble._predictor


def encode(pixels: npt.NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def grey(*, height: int = 40, width: int = 40, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Blotches, so that resizing matters and does not average everything away."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint8)


def by_hand(encoded: bytes, network_files: list[Path]) -> npt.NDArray[np.float64]:
    """The ensemble's answer, put together from the training code."""
    vote = np.zeros((1, 3))
    for path, weight in zip(network_files, WEIGHTS, strict=True):
        network, spec = load_network(path)
        face = decode_image(encoded, image_px=spec.table_px, channels=spec.channels)[None]
        columns = [spec.classes.index(name) for name in CLASSES]
        vote += weight * softmax(predict_logits(network, face, spec)[:, columns])
    return vote


TURNED = Image.Exif()
TURNED[0x0112] = 6  # orientation: the camera lay on its side

PICTURES = {
    "grey": encode(grey()),
    "jpeg": encode(grey(height=90, width=70), "JPEG"),
    "colour": encode(np.stack([grey(seed=s) for s in range(3)], axis=2)),
    "turned": encode(grey(height=60, width=30), "JPEG", exif=TURNED),
    "sixteen-bit": encode(grey().astype(np.uint16) * 257),
    "palette": encode(np.asarray(Image.fromarray(grey()).convert("P"), dtype=np.uint8), "GIF"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_probabilities_are_those_of_the_training_code(
    name: str, ensemble: LoadedEnsemble, network_files: list[Path]
) -> None:
    probs, unreadable = ensemble.predict_encoded([PICTURES[name]])

    assert unreadable == []
    assert probs == pytest.approx(by_hand(PICTURES[name], network_files), abs=1e-5)


def test_answers_differ_from_face_to_face(ensemble: LoadedEnsemble) -> None:
    probs, _ = ensemble.predict_encoded([encode(grey(seed=seed)) for seed in range(8)])

    assert probs.std(axis=0).max() > 0.01


def test_decoded_faces_get_the_answer_of_lossless_encoding(ensemble: LoadedEnsemble) -> None:
    faces = np.stack([grey(seed=seed) for seed in range(5)])

    decoded = ensemble.predict_decoded(faces[..., None])

    assert decoded == pytest.approx(ensemble.predict_encoded([encode(face) for face in faces])[0], abs=1e-6)


def test_batches_get_the_answers_of_single_images(ensemble: LoadedEnsemble) -> None:
    images = [encode(grey(seed=seed)) for seed in range(70)]

    together, _ = ensemble.predict_encoded(images)

    assert together[[0, 66]] == pytest.approx(ensemble.predict_encoded([images[0], images[66]])[0], abs=1e-5)


def test_predict_names_the_most_probable_class(predictor: Any) -> None:
    import pandas as pd

    answer = predictor.predict(None, pd.DataFrame({"image": [encode(grey())]}))

    row = answer.iloc[0]
    assert list(answer.columns) == ["expression", "probability", *CLASSES]
    assert row["probability"] == max(row[name] for name in CLASSES) == row[row["expression"]]
    assert sum(row[name] for name in CLASSES) == pytest.approx(1)


def test_predict_takes_base64_text_as_it_takes_bytes(predictor: Any) -> None:
    import pandas as pd

    image = encode(grey())
    text = base64.b64encode(image).decode()

    answers = predictor.predict(None, pd.DataFrame({"image": [image, text]}, index=[7, 3]))

    assert answers.index.tolist() == [7, 3]
    assert answers.iloc[0, 1:].tolist() == pytest.approx(answers.iloc[1, 1:].tolist())


def test_predict_takes_a_list_of_bytes(predictor: Any) -> None:
    answers = predictor.predict(None, [encode(grey()), encode(grey(seed=1))])

    assert len(answers) == 2


def test_predict_of_nothing_is_an_empty_table(predictor: Any) -> None:
    assert list(predictor.predict(None, []).columns) == ["expression", "probability", *CLASSES]


@pytest.mark.parametrize("junk", [b"junk", b"", "!", None, float("nan"), PICTURES["jpeg"][:300]], ids=str)
def test_predict_names_the_row_that_is_no_image(junk: Any, predictor: Any) -> None:
    images = [*[encode(grey())] * 65, junk]

    with pytest.raises(ValueError, match="image must be an encoded picture such as JPEG or PNG, got none: row 65"):
        predictor.predict(None, images)


def test_predict_asks_for_the_column_by_name(predictor: Any) -> None:
    import pandas as pd

    with pytest.raises(ValueError, match="input must have a column 'image', got picture"):
        predictor.predict(None, pd.DataFrame({"picture": [b""]}))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"temperature": 0}, "temperature must be as they were exported, got 0: members.json"),
        ({"temperature": float("nan")}, "temperature must be as they were exported, got nan"),
        ({"classes": ["anger", "anger"]}, "classes must be as they were exported"),
        ({"networks": []}, "networks must be as they were exported"),
        ({"networks": [1]}, "members.json must be as it was exported"),
    ],
    ids=["temperature", "nan", "classes", "networks", "make"],
)
def test_members_that_make_no_probabilities_are_refused(
    change: dict[str, Any], problem: str, artifact: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(artifact, tmp_path / "model"))
    file = model / "artifacts" / "ensemble" / "members.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    with pytest.raises(ModelError, match=problem):
        load_ensemble(model)


def test_members_with_a_vote_too_many_or_a_file_elsewhere_are_refused(artifact: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(artifact, tmp_path / "model"))
    file = model / "artifacts" / "ensemble" / "members.json"
    members = json.loads(file.read_text())

    members["networks"][0]["votes"][0]["weight"] += 0.5
    file.write_text(json.dumps(members))
    with pytest.raises(ModelError, match="weights of votes must be as they were exported"):
        load_ensemble(model)

    members["networks"][0]["backbone"] = "hf-hub:nobody/nothing"
    file.write_text(json.dumps(members))
    with pytest.raises(ModelError, match="backbones must be as they were exported"):
        load_ensemble(model)


def test_model_that_would_load_a_pickle_is_refused(artifact: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(artifact, tmp_path / "model"))
    text = (model / "MLmodel").read_text()
    (model / "MLmodel").write_text(text.replace("model_code_path: predictor.py", "python_model: python_model.pkl"))

    with pytest.raises(ModelError, match=r"got one whose MLmodel says otherwise: .*; export it again"):
        load_ensemble(model)


def test_weights_that_are_no_numbers_give_no_answer(artifact: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(artifact, tmp_path / "model"))
    file = next((model / "artifacts" / "ensemble").glob("*.safetensors"))
    tensors = load_file(file)
    save_file(
        {name: torch.full_like(t, float("nan")) if t.is_floating_point() else t for name, t in tensors.items()}, file
    )

    with pytest.raises(ModelError, match="probabilities must be numbers, got others"):
        load_ensemble(model).predict_encoded([encode(grey())])
