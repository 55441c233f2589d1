"""Which folders are on other machines."""

from pathlib import Path

import pytest

from trainables.data.mounts import is_on_network

MOUNTS = r"""/dev/vda / ext4 rw 0 0
server:/faces /mnt/faces nfs4 rw,hard 0 0
/dev/vdb /mnt/faces/local xfs rw 0 0
server:/my\040faces /mnt/my\040faces nfs rw 0 0
s3fs /mnt/bucket fuse.s3fs rw 0 0
overlay /mnt/layers fuse.fuse-overlayfs rw 0 0
/dev/vdc /mnt/covered ext4 rw 0 0
//server/share /mnt/covered cifs rw 0 0
torn line
"""


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/home/me/table", False),
        ("/mnt/faces", True),
        ("/mnt/faces/deep/table", True),
        ("/mnt/faces-elsewhere/table", False),
        ("/mnt/faces/local/table", False),
        ("/mnt/my faces/table", True),
        ("/mnt/bucket/table", True),
        ("/mnt/layers/table", False),
        ("/mnt/covered/table", True),
    ],
)
def test_mounted_folder_is_told_from_a_local_one(tmp_path: Path, path: str, told: bool) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)

    assert is_on_network(Path(path), tmp_path / "mounts") is told


def test_link_into_a_mounted_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(f"/dev/vda / ext4 rw 0 0\nserver:/faces {tmp_path.resolve()}/shared nfs4 rw 0 0\n")
    (tmp_path / "shared").mkdir()
    (tmp_path / "table").symlink_to(tmp_path / "shared")

    assert is_on_network(tmp_path / "table", tmp_path / "mounts")


def test_folder_counts_as_local_when_the_system_does_not_tell(tmp_path: Path) -> None:
    assert not is_on_network(Path("/mnt/faces"), tmp_path / "none")
