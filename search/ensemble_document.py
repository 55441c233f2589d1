"""ensemble.json as the final job wrote it: what an export relies on is there and of its type."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from search.options import Option
from spaces.documents import parse_document, read_file
from spaces.errors import AffectuneError, SearchError, shown
from trainables.inside import stays_inside


@dataclass(frozen=True)
class VoterNetwork:
    """One network of a candidate: a file, in the search's folder or by its whole path, and its share of the vote."""

    path: str
    weight: float
    role: Literal["fine_tuned", "partner"]


@dataclass(frozen=True)
class VoterEntry:
    """A candidate that can be a member: its networks, and how they are mixed."""

    space: Literal["probs", "logits"]
    networks: tuple[VoterNetwork, ...]


@dataclass(frozen=True)
class EnsembleParts:
    """Of ensemble.json, what an export relies on."""

    classes: tuple[str, ...]
    method: str
    temperature: float
    voters: dict[str, VoterEntry]
    options: tuple[Option, ...]
    scores: dict[str, dict[str, Any]]
    differences: dict[str, dict[str, Any]]
    methods: list[dict[str, Any]]
    notes: tuple[str, ...]
    run_key: str


def check_ensemble(ensemble: Mapping[str, Any], path: Path) -> EnsembleParts:
    """What an export relies on, of an ensemble.json that can be exported.

    Args:
        ensemble: its content.
        path: of it.

    Raises:
        SearchError: it is of an earlier version, a part is missing or of another type, an option's member is unknown,
            or a network's file lies outside the search's folder by a relative path.
    """
    name = path.parents[1].name
    if "voters" not in ensemble:
        advice = f"run `affectune ensemble {name}`"
        raise SearchError(f"ensemble must be one of this version, got an earlier one's: {path.parents[1]}; {advice}")
    parts = parse_document(
        read_file(path, error=SearchError), EnsembleParts, where=str(path), error=SearchError, beside=None
    )
    if not any(option.is_chosen for option in parts.options):
        raise SearchError(f"an option must be the chosen one, got none among {len(parts.options)}: {path}")
    for member in (member for option in parts.options for member in option.members):
        if member not in parts.voters:
            raise SearchError(f"member of an option must be among the voters, got {shown(member)}: {path}")
    for network in (network for voter in parts.voters.values() for network in voter.networks):
        if not Path(network.path).is_absolute() and not stays_inside(network.path):
            raise SearchError(f"networks must lie in the search's folder, got {shown(network.path)}: {path}")
    return parts


@contextmanager
def as_written(path: Path, *, by: str = "the final job") -> Iterator[None]:
    """Whatever a document's inner parts raise while they are drawn and put into words becomes a SearchError.

    Args:
        path: of the document, or of a folder of them.
        by: who wrote it.
    """
    try:
        yield
    except AffectuneError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        got = f"another ({type(error).__name__}: {error})"
        raise SearchError(f"{path.name} must be as {by} wrote it, got {got}: {path}") from error
