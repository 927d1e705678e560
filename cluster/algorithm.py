"""The training loop, as an RLlib Algorithm: train, save_to_path, from_checkpoint, Tune.

    task stream at `position`
      |  GroupRequests
      v
    GroupCollector --> MemoryEnvRunner x N <--> EnginePool (vLLM x M) <---+
      |  groups of trajectories                                          | weights, version + 1
      v                                                                  |
    staleness bound, dynamic sampling --> advantages --> LearnerGroup (DeepSpeed x W) --> WeightSync
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from cluster.config import RunConfig
from cluster.elastic import grow
from cluster.guards import poisoned
from cluster.lifecycle import Lifecycle
from cluster.loop import Batch
from cluster.metrics import rollout_metrics, speed
from cluster.rollouts import requests_for
from learner.advantages import sequences_from_groups
from learner.types import TrainSequence
from rollout.grouping import select
from rollout.staleness import bound

RESULTS = "grpo"  # where an iteration's row lies in RLlib's result


class GRPOConfig(AlgorithmConfig):
    """RLlib's view of a `RunConfig`, which it keeps as plain values (so Tune can search over them)."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or GRPO)
        self.run_config: dict[str, Any] = {}
        self._dont_auto_sync_env_runner_states = True
        self.env_runners(create_local_env_runner=False)

    def run(self, config: RunConfig) -> GRPOConfig:
        """Take over a run's configuration."""
        self.run_config = config.model_dump(mode="json")
        return self


class GRPO(Lifecycle):
    """Group-relative policy optimisation of a memory agent."""

    on_phase: Callable[[str], None] = staticmethod(lambda phase: None)  # told what the loop turns to

    @classmethod
    def get_default_config(cls) -> GRPOConfig:
        return GRPOConfig()

    def training_step(self) -> None:
        """One iteration: sample groups, learn from them, bring the new weights to the engines.

        With staleness allowed, the next batch is sampled meanwhile; it is then one version old.
        """
        rollout, grpo = self.run_config.rollout, self.run_config.learner.grpo
        self._seconds: dict[str, float] = {}
        with self._timed("rollout"):
            batch = self._ahead.result() if self._ahead else self._sample(self.loop.position)
        last = self.loop.step + 1 >= self.run_config.loop.iterations
        ahead = rollout.max_staleness > 0 and not last
        self._ahead = self._background.submit(self._sample, batch.end) if ahead else None
        with self._timed("checkpoint"):
            self.finish_save()
        groups, age = bound(batch.groups, self.loop.policy_version, rollout.max_staleness)
        metrics = rollout_metrics(groups, batch.sampled, age, grpo)
        learned = self._learn(sequences_from_groups(groups, grpo))
        self.loop.step, self.loop.position, self.sampled = self.loop.step + 1, batch.end, batch.sampled
        self.loop.quarantined = sorted({*self.loop.quarantined, *poisoned(batch.sampled)})
        row = {**self.loop.counters(), **metrics, **learned, **self._seconds, **self._usage()}
        for key, value in {**row, **speed(row, batch.seconds)}.items():
            self.metrics.log_value((RESULTS, key), float(value), reduce="item")

    def _sample(self, start: int) -> Batch:
        """A batch of groups; with dynamic sampling, groups that teach nothing are replaced by further tasks'."""
        rollout, started = self.run_config.rollout, time.monotonic()
        grow(self.run_config, self.rollout_side)
        batch = Batch(end=start)
        for _ in range(1 + (rollout.max_refills if rollout.drop_equal_groups else 0)):
            positions = range(batch.end, batch.end + rollout.tasks_per_batch - len(batch.groups))
            requests = requests_for(self.run_config, self.stream, positions, rollout.group_size, rollout.sampling)
            banned = set(self.loop.quarantined)
            batch.sampled += self.collector.run([request for request in requests if request.task.task_id not in banned])
            batch.groups, _ = select(batch.sampled, rollout.drop_equal_groups)
            batch.end = positions.stop
            if len(batch.groups) >= rollout.tasks_per_batch:
                break
        batch.seconds = time.monotonic() - started
        return batch

    def _learn(self, sequences: list[TrainSequence]) -> dict[str, float]:
        """One update, brought to the engines under the next version; nothing when there is nothing to learn from."""
        if not sequences:
            return {}
        with self._timed("learn"), self._engines_asleep():
            learned = self.learner_group.update(sequences)
        self.skipped_updates.note(learned["updates/skipped"])
        self.loop.policy_version += 1
        with self._timed("sync"):
            self.weight_sync.push(self.loop.policy_version)
        return learned

    @contextmanager
    def _engines_asleep(self) -> Iterator[None]:
        """While the learner works, where both share devices; else they go on."""
        if not self.run_config.rollout.engine.colocate:
            yield
            return
        self.rollout_side.pool.sleep()
        try:
            yield
        finally:
            self.rollout_side.pool.wake()

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        self.on_phase(phase)
        start = time.monotonic()
        yield
        self._seconds[f"time/{phase}"] = time.monotonic() - start

    def alive(self) -> dict[str, str]:
        """How many of each kind of actor are there, as `2 of 2`."""
        side, runners = self.rollout_side, self.env_runner_group
        return {
            "engines": f"{side.watch.up} of {len(side.pool.handles)}",
            "runners": f"{runners.num_healthy_remote_env_runners()} of {runners.num_remote_env_runners()}",
            "learners": f"{len(self.learner_group.workers)} of {self.run_config.learner.workers}",
        }

    @property
    def events(self) -> list[str]:
        """What died, hung and came back."""
        return self.rollout_side.watch.events

    def _usage(self) -> dict[str, float]:
        """Resident memory of this process and of the engines, and the engines' prefix-cache hits so far."""
        engines = self.rollout_side.pool.metrics()
        hits = engines.get("cached_tokens", 0.0) / max(1.0, engines.get("prompt_tokens", 0.0))
        return {
            "memory/driver_mb": psutil.Process().memory_info().rss / 2**20,
            "memory/engine_mb": engines.get("memory_mb", 0.0),
            "cache/prefix_hit_rate": hits,
            "restarts/engines": float(self.rollout_side.watch.restarts),
            "restarts/runners": float(self.env_runner_group.num_remote_worker_restarts()),
        }
