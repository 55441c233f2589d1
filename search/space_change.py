"""A search with another space than it was begun with: taken where all its trials so far are points of that, too."""

from collections.abc import Mapping, Sequence
from typing import Any

from search.first import read_handed, with_points
from search.folder import MANIFEST_FILE, SPACE_FILE, STUDY_FILE, SearchFolder, SearchManifest, TrialRecord
from search.packs.space import check_heads_space
from search.study_journal import asks_in, merge, read_events, values_of, write_events
from spaces.differences import differences
from spaces.errors import ConfigError, SpaceError
from spaces.loading import parse_space
from spaces.space import SearchSpace
from trainables.outputs import write_text

MOST_TOLD = 12
"""Differences in one sentence."""


def unchanged_space(folder: SearchFolder, manifest: SearchManifest) -> SearchSpace:
    """The space of a search.

    Raises:
        SearchError: space.yaml is gone.
        SpaceError: somebody has changed it since the search began; the difference is told.
    """
    space, path = folder.read_space(), folder.path / SPACE_FILE
    if manifest.space in ("", path.read_text(encoding="utf-8")):
        return space
    known = parse_space(manifest.space, where=MANIFEST_FILE)
    told = differences(known, space, with_points=not manifest.plan.get("first"))  # heads add points to it
    if told:
        raise SpaceError(
            f"{SPACE_FILE} must be as the search knows it, got another: {path}; {_listed(told)}; "
            f"undo that, or give --space {path} to go on with it"
        )
    return space


def take_space(folder: SearchFolder, manifest: SearchManifest, space: SearchSpace) -> tuple[SearchManifest, str]:
    """Let a search that is held go on with another space. What it had before is kept, in `before-launch-N`.

    Its manifest is written last: a command that is killed before is to be given again.

    Args:
        folder: of the search.
        manifest: as it stands.
        space: the other space.

    Returns:
        the manifest as it is now, and a sentence about what has changed.

    Raises:
        SpaceError: a trial so far is no point of it; all differences are told, and nothing has been written.
    """
    before = parse_space(manifest.space, where=MANIFEST_FILE) if manifest.space else folder.read_space()
    told, records = differences(before, space), folder.read_records()
    check_heads_space(space)
    _check_heads(folder, manifest, space)
    points = _points_of(records, space, told=told, name=folder.name)
    if told:
        _keep_copies(folder, n_launches=manifest.n_launches)
        _translate(folder, records, points, space)
    write_text(folder.path / SPACE_FILE, space.to_yaml())
    manifest = folder.update_manifest(space=space.to_yaml())
    if not told:
        return manifest, "the space is as it was"
    return manifest, f"the space is another now, and holds all {len(records)} trials so far: {_listed(told)}"


def _translate(
    folder: SearchFolder, records: Sequence[TrialRecord], points: Mapping[str, dict[str, Any]], space: SearchSpace
) -> None:
    """Write the trials' values as they are in another space, into their records and the sampler's journal."""
    events = merge(read_events(folder.path / STUDY_FILE), records)
    for record in records:
        if record.values != points[record.trial_id]:
            record.values = points[record.trial_id]
            folder.write_record(record)
    write_events(folder.path / STUDY_FILE, asks_in(space, events, records))


def _points_of(
    records: Sequence[TrialRecord], space: SearchSpace, *, told: Sequence[str], name: str
) -> dict[str, dict[str, Any]]:
    """Every trial's values in a space, by its id. Raises SpaceError where it lacks one."""
    points, missing = {}, {}
    for record in records:
        try:
            points[record.trial_id] = values_of(space, record)
        except (SpaceError, ConfigError) as error:
            missing[record.trial_id] = str(error)
    if missing:
        first, why = next(iter(missing.items()))
        where = f": {space.where}" if space.where else ""
        raise SpaceError(
            f"space must hold all {len(records)} trials of search {name!r} so far, got one without {len(missing)} "
            f"of them, {first} has {why}{where}; {_listed(told)}"
        )
    return points


def _check_heads(folder: SearchFolder, manifest: SearchManifest, space: SearchSpace) -> None:
    """Refuse a space that does not go with the heads that were trained before the search. Raises SpaceError."""
    handed = read_handed(folder)
    if handed is not None:
        with_points(space, handed)
    elif manifest.plan.get("first") and (folder.heads.path / MANIFEST_FILE).exists():
        raise SpaceError(
            f"space must stay as it is until the heads of {folder.name!r} are trained, got another; "
            "resume without --space first"
        )


def _keep_copies(folder: SearchFolder, *, n_launches: int) -> None:
    """The space and the journal as the launches so far had them; what is there of an earlier try stays."""
    kept = folder.path / f"before-launch-{n_launches + 1}"
    for name in (SPACE_FILE, STUDY_FILE):
        if (folder.path / name).exists() and not (kept / name).exists():
            write_text(kept / name, (folder.path / name).read_text(encoding="utf-8"))


def _listed(told: Sequence[str]) -> str:
    more = [f"and {len(told) - MOST_TOLD} more"] if len(told) > MOST_TOLD else []
    return "; ".join([*told[:MOST_TOLD], *more])
