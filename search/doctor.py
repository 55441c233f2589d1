"""What is installed, what this machine has, and what is wrong with it, each with what to do."""

import configparser
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from search.checkout import CHECKOUT
from search.privacy import PRIVATE_ENVIRONMENT

State = Literal["ok", "warn", "wrong"]
WANTED_PYTHON = (3, 11)
GIB = 1024**3
LEAST_MEMORY, GOOD_MEMORY = 4 * GIB, 8 * GIB
LEAST_DISK, GOOD_DISK = 1 * GIB, 10 * GIB
RENEW = "make setup"
RAY_LIMIT_S = 120.0

_RAY_TASK = """
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
print(ray.get(ray.remote(lambda: "answers").remote()))
"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: ok, warn (works, but not as tested or as well as it could), or wrong.
        found: what is there.
        advice: what to do; empty where all is well.
    """

    name: str
    state: State
    found: str
    advice: str = ""


Look = Callable[[], Sequence[Check]]


def examinations(*, storage: Path, checkout: Path = CHECKOUT) -> dict[str, Look]:
    """What is looked at, in order, and the looks. Ray is started, two batches are trained: half a minute."""
    return {
        "Python and packages": lambda: [
            check_python(sys.version_info[:3]),
            *check_packages(checkout),
            check_spaces(checkout),
        ],
        "PyTorch": lambda: [check_torch(), check_torchvision()],
        "Ray": lambda: [check_import("ray.tune")],
        "MLflow": lambda: [check_import("mlflow")],
        "the machine": lambda: [check_cores(usable_cores()), check_memory(available_memory()), check_disk(storage)],
        "the tracking database": lambda: [check_tracking(storage)],
        "a training step": lambda: [check_training_step()],
        "a start of Ray": lambda: [check_ray_starts()],
        "what libraries report": lambda: list(check_privacy()),
    }


def check_python(version: tuple[int, int, int]) -> Check:
    """Python's version against the one that everything is pinned for."""
    found, wanted = ".".join(map(str, version)), ".".join(map(str, WANTED_PYTHON))
    if version[:2] == WANTED_PYTHON:
        return Check("python", "ok", found)
    state: State = "wrong" if version[:2] < WANTED_PYTHON else "warn"
    return Check("python", state, found, f"constraints.txt is for Python {wanted}: {RENEW} with PYTHON=python{wanted}")


def check_packages(checkout: Path) -> Iterator[Check]:
    """Installed versions of what affectune needs itself against constraints.txt."""
    pinned = pinned_versions(checkout / "constraints.txt")
    if not pinned:
        yield Check("packages", "warn", f"no versions in {checkout / 'constraints.txt'}", "take a complete checkout")
    for name in required_packages(checkout / "setup.cfg"):
        installed, wanted = installed_version(name), pinned.get(name)
        if installed is None:
            yield Check(name, "wrong", "not installed", RENEW)
        elif wanted is not None and installed.partition("+")[0] != wanted.partition("+")[0]:
            yield Check(name, "warn", f"{installed}, tested with {wanted}", RENEW)
        else:
            yield Check(name, "ok", installed)


def check_spaces(checkout: Path) -> Check:
    """Whether `spaces` is ours: PyPI has another package that installs one."""
    import spaces

    found = Path(spaces.__file__ or "").resolve().parent
    if found == checkout / "spaces":
        return Check("our spaces", "ok", str(found))
    return Check("our spaces", "wrong", str(found), "remove the other package: python -m pip uninstall spaces")


def check_torch() -> Check:
    """Whether torch loads, and the GPUs it sees."""
    try:
        import torch

        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except Exception as error:
        return Check("GPU", "wrong", _first_line(error), RENEW)
    if names:
        kinds = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
        return Check("GPU", "ok", kinds)
    if shutil.which("nvidia-smi"):
        return Check("GPU", "warn", "nvidia-smi is there, but torch sees no GPU", "update the driver; see nvidia-smi")
    return Check("GPU", "ok", "none, trials run on the CPU")


def check_torchvision() -> Check:
    """Whether torchvision was built for the torch that is there; timm needs both."""
    try:
        import torch

        importlib.import_module("torchvision.ops")
        torch.ops.torchvision.nms  # noqa: B018  (looking it up fails where the two do not fit)
    except Exception as error:
        advice = "install torch and torchvision from the same place: pip install -c constraints.txt torch torchvision"
        return Check("torch fits torchvision", "wrong", _first_line(error), advice)
    return Check("torch fits torchvision", "ok", "yes")


def check_import(module: str) -> Check:
    """Whether a module loads."""
    try:
        importlib.import_module(module)
    except Exception as error:
        return Check(f"import {module}", "wrong", _first_line(error), RENEW)
    return Check(f"import {module}", "ok", "loads")


def check_cores(n_cores: int) -> Check:
    """Processor cores that may be used."""
    if n_cores >= 2:
        return Check("cores", "ok", str(n_cores))
    return Check("cores", "warn", str(n_cores), "one trial at a time, and slowly; take a machine with more cores")


def check_memory(n_bytes: int | None) -> Check:
    """Memory that is free."""
    if n_bytes is None:
        return Check("free memory", "warn", "not known here", "a search needs about 8 GiB")
    found = f"{n_bytes / GIB:.1f} GiB"
    if n_bytes >= GOOD_MEMORY:
        return Check("free memory", "ok", found)
    state: State = "warn" if n_bytes >= LEAST_MEMORY else "wrong"
    return Check("free memory", state, found, "run fewer trials at once (--max-concurrent), or end other programs")


def check_disk(storage: Path) -> Check:
    """Space where searches are kept."""
    folder = next(path for path in (storage.absolute(), *storage.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB for {storage}"
    if not os.access(folder, os.W_OK):
        return Check("free disk", "wrong", f"{folder} can't be written", "choose another --storage")
    if free >= GOOD_DISK:
        return Check("free disk", "ok", found)
    return Check(
        "free disk", "warn" if free >= LEAST_DISK else "wrong", found, "make room, or choose another --storage"
    )


def check_tracking(storage: Path) -> Check:
    """Whether records could be stored where a search stores them when nothing else is said."""
    from search.tracking_server import check_server, default_tracking_uri
    from spaces.errors import TrackingError

    uri = default_tracking_uri(storage)
    try:
        check_server(uri)
    except TrackingError as error:
        return Check("tracking", "wrong", str(error), "choose another --storage, or a --tracking-uri")
    return Check("tracking", "ok", uri)


def check_training_step() -> Check:
    """Whether a small network trains on two batches of generated faces, on the GPU where there is one."""
    try:
        device, loss = train_two_batches()
    except Exception as error:
        return Check("training step", "wrong", _first_line(error), "see the lines on torch and the GPU above")
    return Check("training step", "ok", f"two batches on the {device}, loss {loss:.2f}")


def train_two_batches() -> tuple[str, float]:
    """Train a small network from scratch on two batches; the device, and the loss."""
    import torch

    from spaces.config import TrialConfig
    from trainables.data.synth import write_synth_table
    from trainables.trainer import Trainer

    settings = {"model.backbone": "test_efficientnet", "model.weights": "none", "train.epochs": 1}
    config = TrialConfig.from_flat({**settings, "train.batch_size": 16})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        table = write_synth_table(Path(folder) / "faces", n_train=32, n_valid=12, n_test=0, image_px=32)
        trainer = Trainer(config, table, device=device)
        try:
            return device, float(trainer.run_epoch()["train/loss"])
        finally:
            trainer.close()


def check_ray_starts() -> Check:
    """Whether a Ray of this machine's own starts and runs a task; in a process of its own, which takes it along."""
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _RAY_TASK], cwd=CHECKOUT, capture_output=True, text=True, timeout=RAY_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return Check("Ray starts", "wrong", f"no answer within {RAY_LIMIT_S:.0f} s", "end other programs; see /tmp/ray")
    if ended.returncode or "answers" not in ended.stdout:
        lines = ended.stderr.strip().splitlines() or ["nothing said"]
        return Check("Ray starts", "wrong", lines[-1], "see /tmp/ray/session_latest/logs")
    return Check("Ray starts", "ok", "a worker answers")


def check_privacy() -> Iterator[Check]:
    """Whether the libraries keep to themselves what is done with them."""
    for name, wanted in PRIVATE_ENVIRONMENT.items():
        value = os.environ.get(name)
        if value is not None and value.lower() == wanted:
            yield Check(name, "ok", value)
        else:
            yield Check(name, "warn", repr(value), f"a library may report its use; export {name}={wanted}")


def pinned_versions(constraints: Path) -> dict[str, str]:
    """Package (normalised name) to version, of a constraints file; empty where there is none."""
    if not constraints.is_file():
        return {}
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", constraints.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {_normal(name): version for name, version in pins}


def required_packages(setup_cfg: Path) -> list[str]:
    """Normalised names of what setup.cfg says affectune needs."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(setup_cfg, encoding="utf-8")
    lines = config.get("options", "install_requires", fallback="").split()
    return [_normal(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in lines]


def installed_version(name: str) -> str | None:
    """The version of an installed package, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory(*, meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that programs could still get, a container's limit included; None where the system does not say."""
    amounts = []
    if meminfo.is_file():
        found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="utf-8"), flags=re.MULTILINE)
        amounts += [int(found[1]) * 1024] if found else []
    limit, used = _read_number(cgroup / "memory.max"), _read_number(cgroup / "memory.current")
    if limit is not None and used is not None:
        amounts.append(max(0, limit - used))
    return min(amounts, default=None)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _first_line(error: Exception) -> str:
    lines: Callable[[], list[str]] = str(error).strip().splitlines
    return f"{type(error).__name__}: {(lines() or [''])[0]}"
