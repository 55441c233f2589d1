"""A registered model behind MLflow's own server answers real HTTP clients, and tells them what is wrong."""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.evaluate import LoadedEnsemble, load_ensemble
from search.privacy import PRIVATE_ENVIRONMENT
from search.registry import register_artifact

pytestmark = pytest.mark.slow

CLASSES = ("anger", "fear", "happiness")
START_LIMIT_S = 120.0
MORE_THAN_A_BATCH = 70


@dataclass(frozen=True)
class Answer:
    status: int
    body: str

    @property
    def probs(self) -> list[list[float]]:
        return [[row[name] for name in CLASSES] for row in json.loads(self.body)["predictions"]]


@pytest.fixture(scope="module")
def server(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of `mlflow models serve` on the champion of a fresh registry."""
    folder = tmp_path_factory.mktemp("served")
    store = f"sqlite:///{folder}/mlflow.db"
    register_artifact(artifact, "faces", store)
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/faces@champion"),
                *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
            ],
            env={
                **os.environ,
                **PRIVATE_ENVIRONMENT,
                "MLFLOW_TRACKING_URI": store,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # it looks for uvicorn there
            },
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}", folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ping", timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the server must be ready within {START_LIMIT_S:g} s, got: {log.read_text()}")


def ask(url: str, body: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/invocations", data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode())


def jpeg(seed: int) -> bytes:
    """Coarse blotches."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).resize((60, 60), Image.Resampling.BICUBIC).save(encoded, "JPEG")
    return encoded.getvalue()


def text(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def records(*images: Any) -> dict[str, Any]:
    return {"dataframe_records": [{"image": image} for image in images]}


@pytest.fixture(scope="module")
def here(artifact: Path) -> LoadedEnsemble:
    """The same artifact, loaded in this process."""
    return load_ensemble(artifact)


def test_server_answers_for_one_picture_what_the_model_answers_here(server: str, here: LoadedEnsemble) -> None:
    answer = ask(server, records(text(jpeg(0))))

    assert answer.status == 200
    assert list(json.loads(answer.body)["predictions"][0]) == ["expression", "probability", *CLASSES]
    assert np.array(answer.probs) == pytest.approx(here.predict_encoded([jpeg(0)])[0], abs=1e-6)


def test_server_answers_more_pictures_than_fit_into_a_batch_in_their_order(server: str, here: LoadedEnsemble) -> None:
    pictures = [jpeg(seed) for seed in range(MORE_THAN_A_BATCH)]

    answer = ask(server, {"dataframe_split": {"columns": ["image"], "data": [[text(each)] for each in pictures]}})

    assert answer.status == 200
    assert np.array(answer.probs) == pytest.approx(here.predict_encoded(pictures)[0], abs=1e-5)


@pytest.mark.parametrize(
    "body",
    [{"instances": [{"image": text(jpeg(0))}]}, {"inputs": {"image": [text(jpeg(0))]}}],
    ids=["instances", "inputs"],
)
def test_server_takes_the_other_formats_of_mlflow_too(body: dict[str, Any], server: str, here: LoadedEnsemble) -> None:
    answer = ask(server, body)

    assert answer.status == 200
    assert np.array(answer.probs) == pytest.approx(here.predict_encoded([jpeg(0)])[0], abs=1e-6)


def test_server_gives_clients_that_ask_at_once_their_own_answers(server: str, here: LoadedEnsemble) -> None:
    bodies = [records(text(jpeg(seed))) for seed in range(12)]

    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda body: ask(server, body), bodies))

    expected, _ = here.predict_encoded([jpeg(seed) for seed in range(12)])
    assert np.array([answer.probs[0] for answer in answers]) == pytest.approx(expected, abs=1e-5)


def test_server_names_the_row_of_a_broken_picture_and_does_not_quote_faces(server: str) -> None:
    answer = ask(server, records(text(jpeg(0)), text(jpeg(1)), text(jpeg(2)[:200])))

    assert answer.status == 400
    assert json.loads(answer.body) == {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "image must be an encoded picture such as JPEG or PNG, got none: row 2",
    }


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"hello", "Ensure that input is a valid JSON formatted string"),
        ({"dataframe_records": [{"picture": text(jpeg(0))}]}, "Model is missing inputs ['image']"),
        ({"dataframe_records": []}, "Model is missing inputs ['image']"),
        (records("this is no base64"), "Failed to convert column image"),
        (records(text(b"junk")), "image must be an encoded picture such as JPEG or PNG, got none: row 0"),
        (records(text(jpeg(0)), ""), "image must be an encoded picture such as JPEG or PNG, got none: row 1"),
        (records(None), "Failed to convert column image"),
        (
            {"instances": ["this is no base64"]},
            "image must be an encoded picture such as JPEG or PNG, got none: row 0",
        ),
    ],
    ids=["no JSON", "no column", "empty list", "no base64", "no picture", "empty text", "null", "no base64 instance"],
)
def test_server_says_what_is_wrong_with_a_body(body: Any, sentence: str, server: str) -> None:
    answer = ask(server, body)

    assert answer.status == 400
    assert sentence in json.loads(answer.body)["message"]
    assert "Traceback" not in answer.body and "stack_trace" not in answer.body


def test_server_still_answers_after_wrong_bodies(server: str) -> None:
    for _ in range(3):
        ask(server, records("junk"))

    assert ask(server, records(text(jpeg(0)))).status == 200
