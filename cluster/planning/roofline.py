"""Seconds of an iteration's phases from a roofline: whichever of arithmetic and memory traffic takes longer.

Roofline: Williams, Waterman, Patterson 2009. The counts of operations are derived in docs/plan.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from cluster.config import RunConfig
from cluster.planning.hardware import Efficiency, Gpu
from cluster.planning.memory import VALUE_BYTES, cached_tokens, engine_memory
from cluster.planning.shape import ModelShape
from cluster.planning.workload import Workload

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Phases:
    """Seconds of one iteration."""

    rollout: float
    learn: float
    sync: float

    @property
    def in_turn(self) -> float:
        """Without overlap: synchronous, on-policy."""
        return self.rollout + self.learn + self.sync

    @property
    def overlapped(self) -> float:
        """With `rollout.max_staleness` of 1: the next batch is sampled while this one is learned from."""
        return max(self.rollout, self.learn) + self.sync

    def days(self, iterations: int, overlap: bool) -> float:
        """Days that so many iterations take."""
        return iterations * (self.overlapped if overlap else self.in_turn) / SECONDS_PER_DAY


def attention_flops(shape: ModelShape, context: float) -> float:
    """Forward operations of one token that attends to ``context`` positions: scores and their sum, 2 each."""
    return 4 * shape.layers * shape.query * context


def devices(count: int, gpus: float) -> int:
    """GPUs that ``count`` actors of ``gpus`` each work on. Those that share one with others take turns with them."""
    return max(1, ceil(count * (gpus or 1.0)))


def learn_seconds(config: RunConfig, shape: ModelShape, work: Workload, gpu: Gpu, reached: Efficiency) -> float:
    """Forward and twice that backward; with checkpointing a second forward pass (6 or 8 per parameter and token).

    Only output tokens pass the output layer.
    """
    length = work.prompt + work.output
    forward = 2 * shape.layer_parameters + attention_flops(shape, length / 2)
    forward += 2 * shape.output_parameters * work.output / length
    passes = 4 if config.learner.gradient_checkpointing else 3
    updates = config.learner.grpo.epochs
    gpus = devices(config.learner.workers, config.learner.num_gpus)
    return updates * passes * forward * work.tokens / (gpus * gpu.flops * reached.train)


def rollout_seconds(config: RunConfig, shape: ModelShape, work: Workload, gpu: Gpu, reached: Efficiency) -> float:
    """Prefill and decode share an engine's time, so they add up; the engines share the episodes."""
    engine = config.rollout.engine
    gpus = devices(engine.count, engine.num_gpus)
    forward = 2 * shape.layer_parameters + attention_flops(shape, work.prompt / 2)
    prefill = work.prefill * forward / (gpus * gpu.flops * reached.prefill)
    running = concurrent(config, shape, work, gpu)
    rounds = max(1.0, work.episodes / engine.count / running)
    steps = rounds * work.turns * work.output
    return prefill + steps * decode_step(config, shape, work, gpu, reached, running)


def concurrent(config: RunConfig, shape: ModelShape, work: Workload, gpu: Gpu) -> float:
    """Sequences that one engine runs at once: as many as there are, as it may, and as its cache holds."""
    engine = config.rollout.engine
    cache = cached_tokens(config, shape, engine_memory(config, shape, gpu.memory)["kv_cache"])
    held = cache / (work.prompt + work.output)
    return max(1.0, min(work.episodes / engine.count, engine.max_num_seqs, held))


def decode_step(
    config: RunConfig, shape: ModelShape, work: Workload, gpu: Gpu, reached: Efficiency, running: float
) -> float:
    """One token for each of ``running`` sequences: reads the weights once and every sequence's keys and values."""
    engine = config.rollout.engine
    value, ways = VALUE_BYTES[engine.dtype], engine.tensor_parallel
    context = work.prompt + work.output / 2
    traffic = shape.parameters * value + running * context * shape.kv_bytes_per_token(value)
    token = 2 * (shape.layer_parameters + shape.output_parameters) + attention_flops(shape, context)
    memory_s = traffic / (ways * gpu.bandwidth * reached.decode)
    return max(memory_s, running * token / (ways * gpu.flops * reached.prefill)) + reached.step_overhead_s


def sync_seconds(config: RunConfig, shape: ModelShape, gpu: Gpu, reached: Efficiency) -> float:
    """The weights once over the learner's link; a broadcast reaches all engines at that rate."""
    return shape.parameters * VALUE_BYTES[config.rollout.engine.dtype] / (gpu.link * reached.link)


def phases_of(
    config: RunConfig, shape: ModelShape, work: Workload, gpu: Gpu, reached: Efficiency | None = None
) -> Phases:
    """Seconds of sampling, learning and weight sync of one iteration."""
    reached = reached or Efficiency()
    return Phases(
        rollout_seconds(config, shape, work, gpu, reached),
        learn_seconds(config, shape, work, gpu, reached),
        sync_seconds(config, shape, gpu, reached),
    )

