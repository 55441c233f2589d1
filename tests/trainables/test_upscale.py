"""Faces made larger, by resampling or by a user's network, and the table that comes of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spaces.errors import ConfigError, ModelError, OutputError, UsageError
from trainables.data.resampling import resample_images
from trainables.data.table import FaceTable, open_table
from trainables.data.upscale import ModelUpscaler, Resampler, upscale_table


class Nearest(torch.nn.Module):
    """Each pixel three times in both directions."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.interpolate(images, scale_factor=3.0, mode="nearest")


class Tinted(torch.nn.Module):
    """Twice as large, and red, green and blue brighter by 0, 30 and 60 of 255."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tint = torch.tensor([0.0, 30 / 255, 60 / 255]).reshape(1, 3, 1, 1)
        return F.interpolate(images, scale_factor=2.0, mode="nearest") + tint


class Crooked(torch.nn.Module):
    """Half as large again."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.interpolate(images, scale_factor=1.5, mode="nearest")


class Stubborn(torch.nn.Module):
    """Always 64 pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.interpolate(images, size=[64, 64], mode="nearest")


class Pair(torch.nn.Module):
    """Two answers."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images, images


class Dark(torch.nn.Module):
    """Not a number wherever a pixel is black."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.interpolate(images / images, scale_factor=2.0, mode="nearest")


class Narrow(torch.nn.Module):
    """Wants one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(images)
        return out


@pytest.fixture
def save(tmp_path: Path) -> Callable[[torch.nn.Module], Path]:
    def save(network: torch.nn.Module) -> Path:
        path = tmp_path / "larger.pt"
        torch.jit.script(network).save(path)  # type: ignore[no-untyped-call]
        return path

    return save


@pytest.fixture
def colour() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 190, (5, 12, 12, 3), dtype=np.uint8)


@pytest.mark.parametrize("by", ["lanczos", "bicubic"])
def test_resampler_enlarges_by_its_factor(colour: Any, by: Any) -> None:
    larger = Resampler(2, by)(colour)

    assert np.array_equal(larger, resample_images(colour, image_px=24, by=by))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((0, "lanczos"), "factor must be at least 1, got 0"),
        ((2, "lancsoz"), "filter must be a known one, got 'lancsoz'; did you mean 'lanczos'"),
    ],
    ids=["factor", "filter"],
)
def test_resampler_refuses_what_makes_no_sense(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Resampler(*settings)


def test_network_finds_its_factor_and_enlarges(save: Callable[..., Path], colour: Any) -> None:
    upscaler = ModelUpscaler(save(Nearest()), batch_size=2)

    assert upscaler.factor == 3
    assert np.array_equal(upscaler(colour), colour.repeat(3, axis=1).repeat(3, axis=2))


def test_grey_goes_through_the_network_as_colour_and_is_averaged(save: Callable[..., Path], colour: Any) -> None:
    grey = colour[..., :1]

    larger = ModelUpscaler(save(Tinted()))(grey)

    assert larger.shape == (5, 24, 24, 1)
    assert np.array_equal(larger, grey.repeat(2, axis=1).repeat(2, axis=2) + 30)


def test_answers_beyond_white_are_white(save: Callable[..., Path]) -> None:
    larger = ModelUpscaler(save(Tinted()))(np.full((1, 8, 8, 3), 250, np.uint8))

    assert larger[0, 0, 0].tolist() == [250, 255, 255]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Crooked(), r"network must answer an image \[1, 3, 32, 32\] with one a whole .*, got \[1, 3, 48, 48\]: .*pt"),
        (Pair(), "network must answer one tensor, got tuple: .*larger.pt"),
        (Narrow(), r"network must take images \[1, 3, 32, 32\], got an error \(.*channels"),
    ],
    ids=["crooked", "two answers", "one channel"],
)
def test_network_that_does_not_enlarge_is_refused(
    save: Callable[..., Path], network: torch.nn.Module, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        ModelUpscaler(save(network))


def test_network_that_answers_another_size_for_other_images_is_refused(save: Callable[..., Path], colour: Any) -> None:
    upscaler = ModelUpscaler(save(Stubborn()))

    with pytest.raises(ModelError, match=r"network must answer \[3, 24, 24\], got \[3, 64, 64\]: .*larger.pt"):
        upscaler(colour)


def test_network_that_answers_no_numbers_is_refused(save: Callable[..., Path]) -> None:
    upscaler = ModelUpscaler(save(Dark()))

    with pytest.raises(ModelError, match=r"network must answer finite numbers, got others: .*larger\.pt"):
        upscaler(np.zeros((1, 8, 8, 3), np.uint8))


def test_file_that_is_no_script_is_refused(tmp_path: Path) -> None:
    torch.save(Nearest().state_dict(), tmp_path / "state.pt")
    (tmp_path / "text.pt").write_text("weights")

    for name in ("state.pt", "text.pt"):
        with pytest.raises(ModelError, match=f"must be a TorchScript file, got another one: .*{name}; torch.jit.trace"):
            ModelUpscaler(tmp_path / name)
    with pytest.raises(ModelError, match=r"must be a TorchScript file, got nothing there: .*gone.pt"):
        ModelUpscaler(tmp_path / "gone.pt")
    with pytest.raises(ModelError, match="must be a TorchScript file, got a folder"):
        ModelUpscaler(tmp_path)


def test_training_faces_are_super_resolved_and_the_others_resampled(
    face_table: FaceTable, save: Callable[..., Path], tmp_path: Path
) -> None:
    larger = upscale_table(face_table.path, tmp_path / "out", upscaler=ModelUpscaler(save(Nearest())))

    train, valid = face_table.split("train").images, face_table.split("valid").images
    assert larger.info.image_px == 120
    assert np.array_equal(larger.split("train").images, train.repeat(3, axis=1).repeat(3, axis=2))
    assert np.array_equal(larger.split("valid").images, resample_images(valid, image_px=120, by="lanczos"))
    wanted = "train made larger by larger.pt, valid and test resampled plainly (lanczos): from 40 to 120 px"
    assert larger.info.notes == [*face_table.info.notes, wanted]


def test_everything_but_the_pixels_stays(face_table: FaceTable, tmp_path: Path) -> None:
    upscale_table(face_table.path, tmp_path / "out", upscaler=Resampler(2), splits=("train", "valid"))

    larger = open_table(tmp_path / "out")
    for old, new in [
        (face_table.split("train"), larger.split("train")),
        (face_table.sealed_test(), larger.sealed_test()),
    ]:
        assert old is not None and new is not None
        assert (new.sample_ids, new.subjects) == (old.sample_ids, old.subjects)
        assert np.array_equal(new.expression, old.expression)
        for name in ("valence", "arousal", "action_units", "landmarks", "hand"):
            np.testing.assert_array_equal(new.column(name), old.column(name))
    assert larger.info.labels == face_table.info.labels
    assert larger.info.sources == face_table.info.sources


def test_answers_of_the_network_are_brought_to_the_size_asked_for(
    face_table: FaceTable, save: Callable[..., Path], tmp_path: Path
) -> None:
    larger = upscale_table(face_table.path, tmp_path / "out", upscaler=ModelUpscaler(save(Nearest())), px=80)

    tripled = face_table.split("train").images[:1].repeat(3, axis=1).repeat(3, axis=2)
    assert np.array_equal(larger.split("train").images[:1], resample_images(tripled, image_px=80, by="lanczos"))


def test_progress_ends_with_all_faces_and_batches_change_nothing(
    face_table: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = upscale_table(face_table.path, tmp_path / "whole", upscaler=Resampler(2))
    monkeypatch.setattr("trainables.data.upscale._BATCH_BYTES", 3 * 80 * 80 * 50)
    told: list[tuple[int, int]] = []

    parts = upscale_table(
        face_table.path,
        tmp_path / "parts",
        upscaler=Resampler(2),
        report=lambda done, total: told.append((done, total)),
    )

    assert parts.info.content_hash == whole.info.content_hash
    assert (told[0], told[-1]) == ((50, 432), (432, 432))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"splits": ("train", "vaild")}, "--splits must name splits of a table, got 'vaild'; did you mean 'valid'"),
        ({"splits": ()}, "--splits must name a split at least, got none"),
        ({"px": 40}, "upscaled faces must have more than the table's 40 px and at most 1024, got 40: "),
        ({"upscaler": Resampler(30)}, "more than the table's 40 px and at most 1024, got 1200: "),
    ],
    ids=["split", "no split", "no larger", "too large"],
)
def test_settings_that_make_no_sense_are_refused(
    face_table: FaceTable, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        upscale_table(face_table.path, tmp_path / "out", **{"upscaler": Resampler(2), **settings})
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_when_the_network_fails_on_a_face(
    face_table: FaceTable, save: Callable[..., Path], tmp_path: Path
) -> None:
    network = save(Stubborn())

    with pytest.raises(ModelError, match=r"must answer \[3, 80, 80\], got \[3, 64, 64\]"):
        upscale_table(face_table.path, tmp_path / "out", upscaler=ModelUpscaler(network))
    assert list(tmp_path.iterdir()) == [network]


def test_out_must_be_empty(face_table: FaceTable) -> None:
    with pytest.raises(OutputError, match="output folder must be new or empty, got "):
        upscale_table(face_table.path, face_table.path, upscaler=Resampler(2))
