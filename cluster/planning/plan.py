"""The plan of a recipe on a cluster: what fits, how long an iteration takes, what to change."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cluster.config import RunConfig
from cluster.placement import bundles_of, described, listed, unplaced
from cluster.planning.hardware import Efficiency, Gpu, gpu_named
from cluster.planning.memory import Fit, cached_tokens, fit_engine, fit_learner
from cluster.planning.roofline import Phases, concurrent, learn_seconds, phases_of
from cluster.planning.shape import ModelShape, shape_of
from cluster.planning.workload import Workload, workload_of

CPUS_PER_NODE = 64.0  # GPU nodes have many; a plan is about the GPUs


@dataclass(frozen=True)
class Plan:
    """Everything that `atommem plan` says of one recipe on one cluster."""

    config: RunConfig
    shape: ModelShape
    work: Workload
    gpu: Gpu
    learner: Fit
    engine: Fit | None  # None: supervised fine-tuning has no engines
    phases: Phases  # of fine-tuning: `learn` is one step
    homeless: str | None  # what finds no GPU, and what there is

    @property
    def fits(self) -> bool:
        """Whether it can be run as it is."""
        return self.learner.fits and (self.engine is None or self.engine.fits) and self.homeless is None

    @property
    def windows(self) -> float:
        """Sequences of the whole window that one engine's cache holds."""
        assert self.engine is not None
        held = cached_tokens(self.config, self.shape, self.engine.parts["kv_cache"])
        return held / self.config.rollout.engine.max_model_len

    @property
    def running(self) -> float:
        """Sequences that one engine decodes at once."""
        return concurrent(self.config, self.shape, self.work, self.gpu)

    @property
    def advice(self) -> list[str]:
        """Settings to change, as `--set` takes them, or a sentence."""
        found = [self.learner.advice, self.engine.advice if self.engine else None, self.homeless]
        return [line for line in found if line]


def plan(
    config: RunConfig, *, gpu: str, nodes: int, gpus: int, output_tokens: float | None = None, sft: bool = False
) -> Plan:
    """Plan a GRPO run, or with ``sft`` the fine-tuning of the same recipe (an iteration is then one step).

    Raises UserError for an unknown GPU, or a model or data that cannot be measured here.
    """
    device, shape = gpu_named(gpu), shape_of(config.model)
    work = workload_of(config, output_tokens)
    learner = fit_learner(config, shape, device.memory)
    if sft:
        work = replace(work, episodes=config.sft.batch_turns, group_size=1, turns=1.0)
        phases = Phases(0.0, learn_seconds(config, shape, work, device, Efficiency()), 0.0)
        return Plan(config, shape, work, device, learner, None, phases, _homeless(config, nodes, gpus, sft=True))
    engine, phases = fit_engine(config, shape, device.memory), phases_of(config, shape, work, device)
    return Plan(config, shape, work, device, learner, engine, phases, _homeless(config, nodes, gpus))


def _homeless(config: RunConfig, nodes: int, gpus: int, sft: bool = False) -> str | None:
    """What asks for GPUs and finds none on the given nodes."""
    has = {str(number): {"CPU": CPUS_PER_NODE, "GPU": float(gpus)} for number in range(1, nodes + 1)}
    bundles = [bundle for bundle in bundles_of(config, with_learner=True) if bundle.gpus]
    if sft:
        bundles = [bundle for bundle in bundles if "learner" in bundle.setting]
    lost = unplaced(bundles, has)
    return f"no room for {listed(lost)} ({described(has)})" if lost else None
