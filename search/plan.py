"""What a user asks of a search and of a final job: budgets, resources, sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trainables.pulse import SILENT_S

JoinedAs = Literal["own", "mean", "worst"]
"""By what an ensemble is chosen where there are faces of a second kind: the search's own faces alone, or both."""

GpuWish = float | Literal["auto"] | None
"""GPUs a trial: a number, as small a part as was measured to do, or what there is."""

DEFAULT_TRIALS = 30
"""Of a search that neither trials nor time bound."""


@dataclass(frozen=True)
class SearchPlan:
    """How a space is searched.

    Attributes:
        n_trials: at most; None bounds the search by time alone.
        time_budget_s: seconds from the launch; None bounds it by trials alone.
        max_concurrent: trials at once; as many as fit if None.
        cpus_per_trial: cores; one, or a GPU's share of them, if None.
        gpus_per_trial: may be a fraction, or auto for what measurements say; one where there are any, if None.
        resources: what a trial takes beside, by the names of the cluster: `memory` in bytes, or its owner's own.
        address: of a running Ray cluster; None starts a local one.
        seed: of the sampler.
        grace_epochs: no trial is stopped before it has seen the faces of so many epochs.
        reduction_factor: a trial goes on past a rung if it is among the best 1 / factor of its kind there.
        min_rung_trials: no trial is stopped at a rung before this many others of its kind were there.
        reprieve_share: of the trials that would be stopped, how many go on, to tell how often stopping is wrong.
        keep_weights: weights are kept of this many best trials, and of the default.
        first: what runs before, such as `heads:200`; empty for nothing.
        silent_s: a worker without a sign of life for so long is ended, and its trial goes on in another.
        shows_faces: whether a trial's page in MLflow has the faces that it got most wrong.
    """

    n_trials: int | None = None
    time_budget_s: float | None = None
    max_concurrent: int | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: GpuWish = None
    resources: Mapping[str, float] = field(default_factory=dict)
    address: str | None = None
    seed: int = 0
    grace_epochs: int = 1
    reduction_factor: float = 3.0
    min_rung_trials: int = 3
    reprieve_share: float = 0.05
    keep_weights: int = 12
    first: str = ""
    silent_s: float = SILENT_S
    shows_faces: bool = True


@dataclass(frozen=True)
class EnsemblePlan:
    """How the final job builds its ensemble.

    Attributes:
        n_bags: of each config; 0 selects among the trials as they are; None takes up to 4 in all, as the time allows.
        n_configs: how many of the best trials' configs the bags repeat.
        n_snapshots: late epochs that a bag keeps beside its best one, as candidates of their own.
        soup: whether weights of candidates with one start are averaged to further candidates.
        max_members: of the ensemble.
        time_budget_s: for all bags together; None grants them as long as the search took.
        max_concurrent, cpus_per_trial, gpus_per_trial, resources, address, silent_s: as for a search.
        seed: of the bags' subsamples and of the selection.
        also: labelled faces of another kind, a face table or a source, that the ensemble is scored on too.
        objective: whether those have a part in choosing: own (none), mean of both macro-F1, or the worst of the two.
    """

    n_bags: int | None = None
    n_configs: int = 3
    n_snapshots: int = 0
    soup: bool = False
    max_members: int = 8
    time_budget_s: float | None = None
    max_concurrent: int | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: GpuWish = None
    resources: Mapping[str, float] = field(default_factory=dict)
    address: str | None = None
    seed: int = 0
    also: str | None = None
    objective: JoinedAs = "own"
    silent_s: float = SILENT_S
