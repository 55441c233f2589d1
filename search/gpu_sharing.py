"""Which share of a GPU each trial asks for, when the user leaves that to measurements: `--gpus-per-trial auto`."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from rich.console import Console

from search.plan import EnsemblePlan, SearchPlan
from spaces.config import TrialConfig
from trainables.data.table import DatasetInfo
from trainables.gpu_profile import Demand, GpuProfile, demand_of
from trainables.heads import why_not_packable
from trainables.memory import CONTEXT_BYTES

HEADROOM = 1.15
"""Over the measured peak: other batches, fragments."""

MOST_SHARING = 16

MEASURED_SHARE = 0.1
"""Of a time budget, for measuring."""

SOON_S = 20.0
"""In which a worker begins where a GPU is free."""

LONGEST_WAIT_S = 600.0
"""For a free GPU, without a time budget."""

Probe = Callable[[TrialConfig], GpuProfile]
"""Measures what a trial of a config takes."""


@dataclass(frozen=True)
class Measured:
    """What one demand takes of a card."""

    demand: Demand
    needed_bytes: int
    card_bytes: int


@dataclass(frozen=True)
class GpuSharing:
    """Shares by what was measured of a search's networks.

    Attributes:
        info: of the face table.
        measured: at least one demand.
    """

    info: DatasetInfo
    measured: tuple[Measured, ...]

    @property
    def smallest(self) -> float:
        """The share that lets the most trials run at once."""
        return min(_share(each.needed_bytes, each.card_bytes) for each in self.measured)

    def share_of(self, settings: Mapping[str, Any]) -> float:
        """The share of a trial with this config: 1 / k, k a whole number, so that shares fill a card.

        A network that was measured with other numbers of faces at once is taken to need what it did with the next
        more, or in proportion where there were only fewer; one that was not measured, as much as any that was.

        Args:
            settings: the complete config, flat.
        """
        demand = demand_of(TrialConfig.from_flat(settings), self.info)
        alike = sorted(
            (each for each in self.measured if each.demand.network == demand.network),
            key=lambda each: each.demand.n_faces,
        )
        if not alike:
            return max(_share(each.needed_bytes, each.card_bytes) for each in self.measured)
        enough = next((each for each in alike if each.demand.n_faces >= demand.n_faces), None)
        if enough is not None:
            return _share(enough.needed_bytes, enough.card_bytes)
        most = alike[-1]
        return _share(math.ceil(most.needed_bytes * demand.n_faces / most.demand.n_faces), most.card_bytes)


def share_gpus(plan: SearchPlan | EnsemblePlan, configs: Iterable[TrialConfig], info: DatasetInfo) -> GpuSharing | None:
    """Measure what trials take of a GPU, where the plan wishes for that and the cluster has one. Ray runs.

    Args:
        plan: of its time, measuring takes a tenth at most, and one network more; so long it waits for a GPU that is
            free.
        configs: those that stand for all trials. Where all are heads, which train in packs, nothing is shared.
        info: of the face table.
    """
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if plan.gpus_per_trial != "auto" or there.get("GPU", 0.0) < 1:
        return None
    chosen = [config for config in configs if why_not_packable(config) != ""]
    if not chosen:
        return None
    console = Console(stderr=True)
    until_s = None if plan.time_budget_s is None else time.time() + MEASURED_SHARE * plan.time_budget_s

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    patient_until_s = time.time() + LONGEST_WAIT_S if until_s is None else until_s
    probe = RayProbe(info, n_steps=planned_steps(info), say=say, until_s=patient_until_s)
    try:
        return measure_sharing(chosen, info, probe=probe, say=say, until_s=until_s)
    finally:
        probe.close()


def measure_sharing(
    configs: Iterable[TrialConfig],
    info: DatasetInfo,
    *,
    probe: Probe,
    say: Callable[[str], None],
    until_s: float | None = None,
    clock: Callable[[], float] = time.time,
) -> GpuSharing | None:
    """Measure each different demand among some configs.

    Args:
        configs: that stand for all of a search.
        info: of the face table.
        probe: measures one.
        say: is told how far it is.
        until_s: Unix time after which no other is measured.
        clock: seconds, as `until_s`.

    Returns:
        What was measured; None where nothing could be.
    """
    by_demand = {demand_of(config, info): config for config in configs}
    measured = []
    for place, (demand, config) in enumerate(by_demand.items(), start=1):
        if until_s is not None and clock() > until_s:
            say(f"GPU: no time to measure {len(by_demand) - place + 1} of {len(by_demand)} networks")
            break
        what = f"GPU: {place} of {len(by_demand)}, {config.model.backbone}, {demand.n_faces} faces at once"
        try:
            profile = probe(config)
        except GetTimeoutError:
            say(f"GPU: none became free to measure {len(by_demand) - place + 1} of {len(by_demand)} networks")
            break
        except RayError as error:
            say(f"{what}: not measured, {type(error).__name__}")
            continue
        needed = math.ceil(HEADROOM * profile.peak_bytes) + max(profile.context_bytes, CONTEXT_BYTES)
        measured.append(Measured(demand, needed, profile.card_bytes))
        say(f"{what}: {profile.peak_bytes / 2**30:.2f} GiB, a share of {_share(needed, profile.card_bytes):g}")
    return GpuSharing(info, tuple(measured)) if measured else None


class RayProbe:
    """Measures in a worker that has a whole GPU to itself; one that was lost is followed by another."""

    def __init__(
        self,
        info: DatasetInfo,
        *,
        n_steps: Callable[[TrialConfig], int],
        say: Callable[[str], None],
        until_s: float,
        gpus: float = 1.0,
    ) -> None:
        """
        Args:
            info: of the face table.
            n_steps: that a trial of a config is to take.
            say: is told where no GPU is free.
            until_s: Unix time to which it waits for one.
            gpus: of the worker; with 0 it measures on a processor.
        """
        self._info = info
        self._n_steps = n_steps
        self._say = say
        self._until_s = until_s
        self._gpus = gpus
        self._worker: Any = None

    def __call__(self, config: TrialConfig) -> GpuProfile:
        """What a trial of this config takes.

        Raises:
            GetTimeoutError: no GPU became free in time.
            RayError: the worker was lost, or the measurement failed in it.
        """
        order = config.to_flat(), asdict(self._info), self._n_steps(config)
        try:
            if self._worker is None:
                self._start_worker()
            return GpuProfile(**ray.get(self._worker.measure.remote(*order)))
        except RayError:
            self.close()
            raise

    def _start_worker(self) -> None:
        self._worker = ray.remote(num_gpus=self._gpus, num_cpus=1)(_Measurer).remote("cuda" if self._gpus else "cpu")
        ready = self._worker.is_ready.remote()
        wait_s = max(self._until_s - time.time(), SOON_S)
        if not ray.wait([ready], timeout=SOON_S)[0]:
            self._say(f"GPU: waiting for one that is free, {wait_s:.0f} s at most")
        ray.get(ready, timeout=wait_s)

    def close(self) -> None:
        """Give the GPU back."""
        if self._worker is not None:
            ray.kill(self._worker)
            self._worker = None


class _Measurer:
    """Runs in a worker."""

    def __init__(self, device: str) -> None:
        from trainables.device import check_device

        self._device = check_device(device)

    def is_ready(self) -> bool:
        """Answers once there is a place for the worker."""
        return True

    def measure(self, settings: dict[str, Any], info: dict[str, Any], n_steps: int) -> dict[str, Any]:
        """A profile, kept or measured now, as plain values."""
        from trainables.embeddings.cache import default_cache
        from trainables.gpu_measurement import fetch_profile

        cache = default_cache()
        profile = fetch_profile(
            TrialConfig.from_flat(settings),
            DatasetInfo(**info),
            self._device,
            n_steps=n_steps,
            cache=cache.folder if cache else None,
        )
        return asdict(profile)


def planned_steps(info: DatasetInfo) -> Callable[[TrialConfig], int]:
    """From a config to about how many steps its trial takes on a table."""

    def steps(config: TrialConfig) -> int:
        n_faces = config.data.subsample_ratio * sum(info.class_counts["train"])
        return max(1, round(n_faces / config.train.batch_size)) * config.train.epochs

    return steps


def _share(needed_bytes: int, card_bytes: int) -> float:
    """1 / k, rounded down to the digits that Ray counts in, so that k of them are no more than a card."""
    k = min(max(card_bytes // needed_bytes, 1), MOST_SHARING)
    return floored(1 / k, digits=4)


def floored(number: float, *, digits: int) -> float:
    """Rounded down to so many decimal places."""
    factor = float(10**digits)
    return math.floor(number * factor + 1e-9) / factor
