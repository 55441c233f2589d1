"""Which folders are on other machines, as the kernel's table of mounts says."""

import re
from pathlib import Path

MOUNTS = Path("/proc/mounts")

NETWORK_TYPES = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "glusterfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "virtiofs",
        "weka",
        "wekafs",
    }
)
LOCAL_FUSE_TYPES = frozenset({"fuse.fuse-overlayfs", "fuse.lxcfs", "fuse.mergerfs", "fuse.squashfuse"})
"""Of file systems in user space, which are usually clients of stores elsewhere, those that are not."""

_OCTAL = re.compile(r"\\([0-7]{3})")


def is_on_network(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether what stands at a path, or would, is read over a network; False where the system does not tell.

    Args:
        path: of a file or folder.
        mounts: the table, one file system a line: device, place, type, ...
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    place, kind = Path("/"), ""
    wanted = path.resolve()
    for line in lines:
        _, at, found, *_ = [*line.split(" "), "", "", ""]
        at_path = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), at))
        if wanted.is_relative_to(at_path) and len(at_path.parts) >= len(place.parts):  # the last of a place is on top
            place, kind = at_path, found
    return kind in NETWORK_TYPES or (kind.startswith("fuse.") and kind not in LOCAL_FUSE_TYPES)
