"""A search that is launched into a cluster of several nodes as processes: what it sees, refuses and keeps to itself."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ray.autoscaler._private.monitor import BASE_READONLY_CONFIG

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
MAIN = "import sys; from search.cli import main; sys.exit(main())"
TOKEN = "0123456789abcdef" * 4
SECRET = "not for the workers"
SPACE = """
name: small
description: a trial of seconds
parameters:
  optimiser.lr: {log_uniform: [1.0e-3, 1.0e-2], default: 5.0e-3}
fixed:
  model.backbone: test_efficientnet
  model.weights: none
  model.image_px: 32
  train.epochs: 2
"""
FAKE_PROVIDER = {
    "type": "fake_multinode",
    "use_node_id_as_ip": True,
    "disable_node_updaters": True,
    "disable_launch_config_check": True,
}
NODE_TYPES = {
    "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "gpu_spot": {"resources": {"CPU": 2, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 3},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """Nodes as processes of this machine, with a token of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",
            "OMP_NUM_THREADS": "1",
        }
        self._nodes: list[subprocess.Popen[bytes]] = []

    def start_head(self, *options: str, **env: str) -> None:
        port = self.address.rpartition(":")[2]
        own = ("--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false")
        self._start(*own, f"--temp-dir={self.folder / 'ray'}", *options, **env)

    def start_worker(self, *options: str, before: tuple[str, ...] = ()) -> None:
        self._start(f"--address={self.address}", *options, before=before)

    def _start(self, *options: str, before: tuple[str, ...] = (), **env: str) -> None:
        file = self.folder / f"node-{len(self._nodes)}.log"
        log = file.open("wb")
        agent = f"--dashboard-agent-listen-port={free_port()}"
        words = [*before, RAY, "start", "--block", agent, "--object-store-memory=80000000", *options]
        env = {**self.env, **env}
        self._nodes.append(subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True))
        wait_until(lambda: b"Ray runtime started" in file.read_bytes())

    def run(self, program: str, *words: str, timeout_s: float = 500, **env: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", program, *words]
        env = {**self.env, **env}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s)

    def stop(self) -> None:
        mine = [child for node in self._nodes for child in _family(node.pid)]
        for node in reversed(self._nodes):
            node.send_signal(signal.SIGTERM)
        psutil.wait_procs(mine, timeout=15)
        for process in mine:
            if process.is_running():
                process.kill()


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def wait_until(is_so: Callable[[], bool], *, limit_s: float = 240.0) -> None:
    until_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < until_s, "it takes too long"
        time.sleep(0.3)


JOIN = (
    "from search.cluster import check_nodes, list_machines, start_ray; from search.resources import plan_resources\n"
    "import sys, json, time, ray\n"
)
SEE = (
    "start_ray(sys.argv[1])\n"
    "until = time.time() + 90\n"
    "while len(ray.nodes()) < int(sys.argv[2]) and time.time() < until:\n"
    "    time.sleep(0.3)\n"
)


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """Ray's sockets need short names."""
    folder = Path(tempfile.mkdtemp(prefix="aft-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(short_folder: Path) -> Iterator[Cluster]:
    """A head without processors and two workers with one each."""
    made = Cluster(short_folder)
    try:
        made.start_head("--num-cpus=0")
        for _ in range(2):
            made.start_worker("--num-cpus=1")
        program = JOIN + SEE + "print(len(ray.nodes()))"
        assert made.run(program, made.address, "3").stdout.strip() == "3"
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def faces(short_folder: Path) -> Path:
    from trainables.data.synth import write_synth_table

    write_synth_table(short_folder / "faces", n_train=300, n_valid=100, n_test=60, image_px=40, seed=1)
    (short_folder / "space.yaml").write_text(SPACE)
    return short_folder / "faces"


def search(cluster: Cluster, faces: Path, name: str, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    storage = faces.parent / "runs"
    given = ("search", str(faces.parent / "space.yaml"), "--data", str(faces), "--name", name)
    return cluster.run(MAIN, *given, "--storage", str(storage), "--trials", "3", *words, **env)


def test_search_runs_on_the_nodes_of_a_cluster_and_tells_them_no_secret(cluster: Cluster, faces: Path) -> None:
    done = search(cluster, faces, "there", "--address", cluster.address, "--json", MLFLOW_TRACKING_PASSWORD=SECRET)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["completed"] == 3
    logs = [*cluster.folder.rglob("*.log"), *cluster.folder.rglob("*.out"), *cluster.folder.rglob("*.err")]
    kept = [*logs, *(faces.parent / "runs").rglob("*.json*")]
    assert logs
    assert [file for file in kept if any(word.encode() in file.read_bytes() for word in (SECRET, TOKEN))] == []


def test_status_tells_how_the_search_ended(cluster: Cluster, faces: Path) -> None:
    done = cluster.run(MAIN, "status", "there", "--storage", str(faces.parent / "runs"), "--json")

    status = json.loads(done.stdout)
    assert (status["state"], status["ends"], status["n_waiting"]) == ("ended", {"completed": 3}, 0)


def test_search_without_the_token_is_refused(cluster: Cluster, faces: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("f" * 64)

    done = search(cluster, faces, "stranger", "--address", cluster.address, RAY_AUTH_TOKEN_PATH=str(wrong))

    assert done.returncode == 1
    assert "affectune: Ray must be reachable, got" in done.stderr
    assert not (faces.parent / "runs" / "stranger").exists()


def test_search_that_no_node_has_room_for_is_refused_at_once(cluster: Cluster, faces: Path) -> None:
    done = search(cluster, faces, "large", "--address", cluster.address, "--cpus-per-trial", "2")

    assert done.returncode == 1
    assert "cpus-per-trial must be at most what the cluster has on one node (1), got 2" in done.stderr
    assert not (faces.parent / "runs" / "large").exists()


CHECK = SEE + (
    "from pathlib import Path\n"
    "began = time.time()\n"
    "check_nodes(Path(sys.argv[3]), Path(sys.argv[4]), table_hash=sys.argv[5])\n"
    "print(time.time() - began)"
)


def table_hash(faces: Path) -> str:
    return str(json.loads((faces / "dataset.json").read_text())["content_hash"])


def test_nodes_that_are_alike_are_taken(cluster: Cluster, faces: Path, tmp_path: Path) -> None:
    done = cluster.run(JOIN + CHECK, cluster.address, "3", str(tmp_path), str(faces), table_hash(faces))

    assert float(done.stdout) < 120, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["torch", "code"])
def test_node_with_another_version_is_refused(cluster: Cluster, faces: Path, tmp_path: Path, what: str) -> None:
    change = (
        "import search.environment as environment\n"
        "own = environment.read_environment()\n"
        f"environment.read_environment = lambda: {{**own, {what!r}: '0.1'}}\n"
    )

    done = cluster.run(JOIN + change + CHECK, cluster.address, "3", str(tmp_path), str(faces), table_hash(faces))

    assert "must be the same on every node, got" in done.stderr
    assert f"and 0.1 here: {socket.gethostname()}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_node_with_another_table_is_refused(cluster: Cluster, faces: Path, tmp_path: Path) -> None:
    done = cluster.run(JOIN + CHECK, cluster.address, "3", str(tmp_path), str(faces), "00112233")

    assert f"face table must be the same on every node, got {table_hash(faces)[:12]} there" in done.stderr


def test_node_that_does_not_see_the_storage_is_refused(cluster: Cluster, faces: Path, tmp_path: Path) -> None:
    apart = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {tmp_path} && exec "$0" "$@"')
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount, which is not given here")
    cluster.start_worker("--num-cpus=1", before=apart)

    done = cluster.run(JOIN + CHECK, cluster.address, "4", str(tmp_path), str(faces), table_hash(faces))

    assert "storage must be the same folder on every node, got none there" in done.stderr
    assert str(tmp_path) in done.stderr


def test_machines_that_an_autoscaler_may_start_count_and_come_when_they_are_asked_for(short_folder: Path) -> None:
    folder = short_folder / "s"
    folder.mkdir()
    made = Cluster(folder)
    config = folder / "fake.yaml"
    provider = {**FAKE_PROVIDER, "gcs_address": made.address}
    own = {"provider": provider, "max_workers": 4, "idle_timeout_minutes": 5, "available_node_types": NODE_TYPES}
    config.write_text(json.dumps({**BASE_READONLY_CONFIG, **own}))
    program = JOIN + (
        "start_ray(sys.argv[1])\n"
        "machines = list_machines()\n"
        "plan = plan_resources(cpus_per_trial=None, gpus_per_trial=None, max_concurrent=None)\n"
        "print(json.dumps([[m.name, m.n] for m in machines if not m.is_head] + [plan.gpus, plan.max_concurrent]))\n"
        "print(ray.get(ray.remote(num_cpus=1, num_gpus=1)(lambda: 7).remote(), timeout=120))\n"
        "print(json.dumps([m.n for m in list_machines() if m.name == 'gpu_spot']))\n"
        "plan_resources(cpus_per_trial=None, gpus_per_trial=2.0, max_concurrent=None)"
    )
    try:
        env = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
        made.start_head("--num-cpus=0", f"--autoscaling-config={config}", **env)

        done = made.run(program, made.address)
    finally:
        made.stop()

    lines = done.stdout.splitlines()
    assert lines == ['[["gpu_spot", 3], 1.0, 3]', "7", "[2]"], done.stderr
    assert "gpus-per-trial must be at most what the cluster has on one node (1), got 2" in done.stderr


LISTENING = (
    "import psutil\n"
    "def listening(process):\n"
    "    family = [process, *process.children(recursive=True)]\n"
    "    found = {c.laddr.ip for p in family for c in p.net_connections('inet') if c.status == psutil.CONN_LISTEN}\n"
    "    return json.dumps(sorted(found))\n"
)
HERE_ALONE = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_local_ray_listens_on_this_machine_alone(cluster: Cluster) -> None:
    program = (
        JOIN
        + LISTENING
        + ("start_ray(None)\nray.get(ray.remote(lambda: 1).remote())\nprint(listening(psutil.Process()))")
    )

    done = cluster.run(program)

    assert set(json.loads(done.stdout)) <= HERE_ALONE, done.stderr


def test_page_of_the_records_listens_on_this_machine_alone(cluster: Cluster, faces: Path) -> None:
    program = (
        JOIN
        + LISTENING
        + (
            "import subprocess, urllib.request\n"
            "words = [sys.executable, '-m', 'search.cli', 'ui', '--storage', sys.argv[1], '--port', sys.argv[2]]\n"
            "process = subprocess.Popen(words, stdout=subprocess.PIPE)\n"
            "while b'Ctrl-C' not in process.stdout.readline():\n    pass\n"
            "print(listening(psutil.Process(process.pid)))\n"
            "process.terminate(); process.wait()\n"
        )
    )

    done = cluster.run(program, str(faces.parent / "runs"), str(free_port()))

    assert set(json.loads(done.stdout)) <= HERE_ALONE, done.stderr


def test_local_workers_do_not_know_the_drivers_secrets(cluster: Cluster) -> None:
    program = JOIN + (
        "import os\n"
        "start_ray(None)\n"
        "task = ray.remote(lambda: 'MLFLOW_TRACKING_PASSWORD' in __import__('os').environ)\n"
        "print(ray.get(task.remote()), 'MLFLOW_TRACKING_PASSWORD' in os.environ)"
    )

    done = cluster.run(program, MLFLOW_TRACKING_PASSWORD=SECRET)

    assert done.stdout.split() == ["False", "True"], done.stderr
