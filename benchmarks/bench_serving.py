"""What an exported ensemble takes to answer over HTTP, beside the same model asked in this process.

    python benchmarks/bench_serving.py [--runs 5] [--requests 40] [--networks 3]

An artifact of untrained tf_efficientnet_lite0 networks on grey faces of 48 px stands behind `mlflow models serve`, one
worker. A client sends it JPEGs of drawn faces of 128 px, base64 in `dataframe_split`, one at a time and 64 at a time,
each request a connection. The peer is `predict` of the same model on the same JPEGs as bytes. PyTorch has one thread on
both sides. Wall times, medians of several runs in turn; the server idles while the peer works.

What profiles showed, in CPU time since the machine was busy: the server's process takes 28 ms for an image. Of those 24
are `predict`, and of those 21 the three networks', nearly all of it the cost of many small layers one after the other;
decoding takes 0.2. Some 4 are HTTP, JSON and MLflow. For 64 images it takes 290 ms: 265 the networks', 14 the decoding,
2 JSON and base64. So there is little to save around the networks. A second thread makes an image cost 46 ms without
answering it sooner (21 ms in `predict` at best, both ways), and much later where other work wants the cores:
OMP_NUM_THREADS=1 suits a server that gets single images.
"""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from measure import bench_arguments, compare, medians_in_turn, report, wall_seconds
from PIL import Image

from search.export import ArtifactNetwork, write_artifact
from search.privacy import keep_private
from trainables.checkpoint import NetworkSpec, save_network
from trainables.data.synth import generate_split
from trainables.models.backbones import build_network

BACKBONE = "tf_efficientnet_lite0"
CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
IMAGE_PX = 48
DRAWN_PX = 128
BATCH_SIZE = 64
BATCHES = 3
HOST = "127.0.0.1"
START_LIMIT_S = 120.0

Ask = Callable[[Sequence[bytes]], np.ndarray]
"""Encoded pictures to probabilities, [pictures, classes]."""


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(__doc__, runs=5, requests=40, networks=3)
    keep_private()
    torch.set_num_threads(1)
    pictures = draw_pictures(BATCH_SIZE)
    with tempfile.TemporaryDirectory() as name:
        artifact = write_networks(Path(name), n=arguments.networks)
        here = asking_here(artifact)
        with asking_a_server(artifact) as server:
            np.testing.assert_allclose(server(pictures), here(pictures), atol=1e-5)
            sides = {"server": server, "here": here}
            latencies = medians_in_turn(
                {side: lambda ask=ask: latency_ms(ask, pictures[: arguments.requests]) for side, ask in sides.items()},
                runs=arguments.runs,
            )
            rates = medians_in_turn(
                {side: lambda ask=ask: images_per_s(ask, pictures) for side, ask in sides.items()}, runs=arguments.runs
            )
    what = f"{arguments.networks} x {BACKBONE}, {IMAGE_PX} px, over HTTP"
    rows = [
        compare(
            f"one image answered by {what}", latencies["server"], "ms",
            peer="the same model in this process", peer_value=latencies["here"],
        ),
        compare(
            f"batches of {BATCH_SIZE} answered by {what}", rates["server"], "images/s",
            peer="the same model in this process", peer_value=rates["here"], is_smaller_better=False,
        ),
    ]  # fmt: skip
    return report(rows, arguments)


def latency_ms(ask: Ask, pictures: Sequence[bytes]) -> float:
    """Median of one picture at a time."""
    return 1000 * statistics.median(wall_seconds(lambda each=each: ask([each])) for each in pictures)


def images_per_s(ask: Ask, pictures: Sequence[bytes]) -> float:
    """Of some batches, one after the other."""
    return BATCHES * len(pictures) / sum(wall_seconds(lambda: ask(pictures)) for _ in range(BATCHES))


def draw_pictures(n: int) -> list[bytes]:
    """JPEGs of drawn faces."""
    pictures = []
    for face in generate_split("valid", n=n, image_px=DRAWN_PX).images:
        encoded = io.BytesIO()
        Image.fromarray(face[..., 0] if face.shape[2] == 1 else face).save(encoded, "JPEG")
        pictures.append(encoded.getvalue())
    return pictures


def write_networks(folder: Path, *, n: int) -> Path:
    """An artifact of networks that nobody trained; they are as slow as trained ones."""
    spec = NetworkSpec(BACKBONE, CLASSES, IMAGE_PX, IMAGE_PX, 1, (0.5,) * 3, (0.25,) * 3)
    networks = []
    for seed in range(n):
        torch.manual_seed(seed)
        path = folder / f"{seed}.safetensors"
        save_network(path, build_network(BACKBONE, n_classes=len(CLASSES)).state_dict(), spec)
        networks.append(ArtifactNetwork(path, weight=1 / n, member=f"t{seed:04d}", role="fine_tuned"))
    return write_artifact(folder / "model", networks=networks, classes=CLASSES, card="", provenance={})


def asking_here(artifact: Path) -> Ask:
    """The peer: the model in this process."""
    model = mlflow.pyfunc.load_model(str(artifact))

    def ask(pictures: Sequence[bytes]) -> np.ndarray:
        answer = model.predict(pd.DataFrame({"image": list(pictures)}))
        return answer[list(CLASSES)].to_numpy()

    return ask


@contextlib.contextmanager
def asking_a_server(artifact: Path) -> Iterator[Ask]:
    """MLflow's server on the artifact, a process of its own; gone after."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(artifact)]
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where MLflow looks for uvicorn
    server = subprocess.Popen(
        [*command, "--env-manager", "local", "--host", HOST, "--port", str(port)],
        env={**os.environ, "PATH": tools, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that nothing of it is left where it has to be ended
    )
    try:
        url = f"http://{HOST}:{port}"
        wait_until_ready(server, url)
        yield lambda pictures: answer_of(url, pictures)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answer_of(url: str, pictures: Sequence[bytes]) -> np.ndarray:
    """A client's work: encode, send, read."""
    rows = [[base64.b64encode(each).decode()] for each in pictures]
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()
    request = urllib.request.Request(f"{url}/invocations", data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        predictions: list[dict[str, Any]] = json.load(answer)["predictions"]
    return np.array([[row[name] for name in CLASSES] for row in predictions])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until_ready(server: "subprocess.Popen[bytes]", url: str) -> None:
    """Until it answers; RuntimeError where it does not."""
    deadline = time.monotonic() + START_LIMIT_S
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ping", timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the server must answer within {START_LIMIT_S:g} s, got nothing")


if __name__ == "__main__":
    sys.exit(main())
