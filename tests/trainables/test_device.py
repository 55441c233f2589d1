"""The processor a trial asks for is there, or it gets a sentence."""

import pytest
import torch

from spaces.errors import DeviceError
from trainables.device import check_device


def test_device_is_the_processor_when_asked_for() -> None:
    assert check_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "n_gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_device_is_refused_when_there_is_no_such_gpu(monkeypatch: pytest.MonkeyPatch, name: str, n_gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)

    with pytest.raises(DeviceError, match=f"device must be there, got '{name}' with {n_gpus} GPUs found; use cpu"):
        check_device(name)


@pytest.mark.parametrize("name", ["gpu", "tpu", "cuda:-1", ""])
def test_device_is_refused_when_its_name_is_none(name: str) -> None:
    with pytest.raises(DeviceError, match=f"device must be cpu, cuda or cuda:NUMBER, got '{name}'"):
        check_device(name)
