"""Which node each actor of a run would go to. Pure arithmetic, for `atommem plan` and for waiting on a live cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.config import RunConfig

SLACK = 1e-6  # fractions of CPUs do not add up exactly
Nodes = Mapping[str, Mapping[str, float]]  # name -> "CPU", "GPU" -> amount


@dataclass(frozen=True)
class Bundle:
    """What one actor needs on one node, and the setting that asks for it."""

    setting: str
    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU ({self.setting})"


def bundles_of(run: RunConfig, with_learner: bool) -> list[Bundle]:
    """One bundle per actor. A colocated engine and its learner are one bundle: they share the device."""
    engine, learner, rollout = run.rollout.engine, run.learner, run.rollout
    bundles = [Bundle("rollout.engine", engine.num_cpus, engine.num_gpus)] * engine.count
    if with_learner:
        learners = [Bundle("learner.workers", learner.num_cpus, learner.num_gpus)] * learner.workers
        bundles = _paired(bundles, learners) if engine.colocate else bundles + learners
    return bundles + [Bundle("rollout.runners", rollout.runner_cpus, 0.0)] * rollout.runners


def _paired(engines: Sequence[Bundle], learners: Sequence[Bundle]) -> list[Bundle]:
    return [
        Bundle(f"{engine.setting} + {learner.setting}", engine.cpus + learner.cpus, engine.gpus + learner.gpus)
        for engine, learner in zip(engines, learners, strict=True)
    ]


def unplaced(bundles: Sequence[Bundle], nodes: Nodes) -> list[Bundle]:
    """The bundles that find no node: the largest first, each on the node where it leaves the least over."""
    free = {name: {"CPU": has.get("CPU", 0.0), "GPU": has.get("GPU", 0.0)} for name, has in nodes.items()}
    homeless = []
    for bundle in sorted(bundles, key=lambda bundle: (-bundle.gpus, -bundle.cpus)):
        able = [has for has in free.values() if _holds(has, bundle)]
        if not able:
            homeless.append(bundle)
            continue
        tightest = min(able, key=lambda has: (has["GPU"] - bundle.gpus, has["CPU"] - bundle.cpus))
        tightest["CPU"] -= bundle.cpus
        tightest["GPU"] -= bundle.gpus
    return homeless


def _holds(has: Mapping[str, float], bundle: Bundle) -> bool:
    return has["CPU"] + SLACK >= bundle.cpus and has["GPU"] + SLACK >= bundle.gpus


def listed(bundles: Sequence[Bundle]) -> str:
    """Equal bundles counted: `3 x 1 CPU and 1 GPU (rollout.engine)`."""
    counts: dict[Bundle, int] = {}
    for bundle in bundles:
        counts[bundle] = counts.get(bundle, 0) + 1
    return ", ".join(f"{count} x {bundle}" for bundle, count in counts.items())


def described(nodes: Nodes) -> str:
    """What each node has: `node 10.0.0.1: 8 CPU and 1 GPU`."""
    each = (f"node {name}: {has.get('CPU', 0):g} CPU and {has.get('GPU', 0):g} GPU" for name, has in nodes.items())
    return "; ".join(each) or "no node"
