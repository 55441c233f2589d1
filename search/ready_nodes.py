"""Ray and its nodes, made ready for a search: started or joined, and looked at before anything is ordered."""

from functools import partial
from pathlib import Path

from rich.console import Console

from search.cluster import check_nodes, start_ray
from search.folder import SearchFolder
from search.progress import waiting
from trainables.data.stores import is_uri
from trainables.data.table import FaceTable


def start_nodes(address: str | None, folder: SearchFolder, table: FaceTable) -> None:
    """Start a local Ray, or join a cluster whose nodes must have our code, libraries and files.

    Args:
        address: of the cluster; None for a local Ray, of which there is nothing to check.
        folder: of the search; it is there.
        table: the face table. Where it is kept in an object store, each node copies it for itself.

    Raises:
        SearchError: no cluster answers, or a node has something else than this process.
    """
    with waiting("starting Ray" if address is None else f"joining the cluster at {address}"):
        start_ray(address)
    at = None if is_uri(table.origin) else Path(table.origin)
    say = partial(Console(stderr=True).print, markup=False, highlight=False, soft_wrap=True)
    check_nodes(folder.path, at, table_hash=table.info.content_hash, say=say)
