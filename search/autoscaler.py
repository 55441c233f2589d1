"""What an autoscaler may start: read on the head of a cluster, where Ray's own process was told. No Ray in here."""

from pathlib import Path
from typing import Any

import psutil
import yaml

_MONITORS = ("autoscaler/_private/monitor.py", "autoscaler/v2/monitor.py")


def read_autoscaler(gcs_address: str) -> dict[str, Any]:
    """The cluster's configuration, with the kinds of machines under `available_node_types`.

    Ray keeps it in a file on the head, which the process that starts machines has on its command line; nothing else
    in an open-source cluster knows the kinds. To be called on the head.

    Args:
        gcs_address: of the cluster, HOST:PORT; several can have their heads on one machine.

    Returns:
        Nothing where no autoscaler runs, or where it keeps its configuration elsewhere (Kubernetes).
    """
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if not any(word.endswith(_MONITORS) for word in words):
            continue
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
        file = options.get("autoscaling-config", "")
        if _port(options.get("gcs-address", "")) == _port(gcs_address) and file:
            return _read(Path(file).expanduser())
    return {}


def _read(file: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _port(address: str) -> str:
    """Hosts have many names; of one machine's clusters the port tells which."""
    return address.rpartition(":")[2]
