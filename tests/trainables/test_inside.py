"""Names that climb out of a folder are known as such."""

from pathlib import Path

import pytest

from trainables.inside import leads_out, stays_inside


@pytest.mark.parametrize("name", ["a.png", "faces/a.png", "./a.png", "faces/../a.png", "..a.png", "a/b/../../c"])
def test_name_below_its_folder_is_known(name: str) -> None:
    assert stays_inside(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a.png", "/etc/passwd", "a/../../b", "faces/../../a", "C:/a.png", "a\0b", "//host/a"]
)
def test_name_that_leads_elsewhere_is_known(name: str) -> None:
    assert not stays_inside(name)


def test_link_out_of_a_folder_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights").write_text("own")
    (folder / "deep" / "same").symlink_to(folder / "weights")
    before = leads_out(folder)
    (folder / "deep" / "other").symlink_to("../../secret")

    assert before is None
    assert leads_out(folder) == folder / "deep" / "other"


def test_folder_that_is_a_link_itself_is_not_held_against_its_files(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "weights").write_text("own")
    (tmp_path / "model").symlink_to("real")

    assert leads_out(tmp_path / "model") is None
