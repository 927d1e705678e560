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

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.tune.execution.placement_groups import PlacementGroupFactory

from cluster.config import RunConfig
from cluster.elastic import ask_autoscaler, grow
from cluster.guards import SkippedUpdates, poisoned
from cluster.loop import Batch, LoopState
from cluster.metrics import rollout_metrics, speed
from cluster.resources import await_resources, reserve_pairs
from cluster.rollouts import launch, requests_for, start_runners, stream_of
from cluster.rundir import write_text
from env.errors import UserError
from learner.advantages import sequences_from_groups
from learner.group import LearnerGroup
from learner.types import TrainSequence
from learner.weight_sync import WeightSync
from rollout.grouping import select
from rollout.staleness import bound
from rollout.types import Group

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


class GRPO(Algorithm):
    """Group-relative policy optimisation of a memory agent."""

    run_config: RunConfig
    loop: LoopState
    sampled: list[Group]  # in the last iteration, dropped groups included
    on_phase: Callable[[str], None] = staticmethod(lambda phase: None)  # told what the loop turns to
    on_hang: Callable[[str], None] = staticmethod(lambda reason: None)  # told before what hangs is ended
    _ahead: Future[Batch] | None = None  # the next batch, being sampled while the learner works
    _background: ThreadPoolExecutor

    @classmethod
    def get_default_config(cls) -> GRPOConfig:
        return GRPOConfig()

    # -- the loop ------------------------------------------------------------------------------------------------------

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

    def settle(self) -> None:
        """Wait until no episode is being played, so that the collector is free for others (evaluation)."""
        if self._ahead is not None:
            wait([self._ahead])

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

    # -- starting and stopping -----------------------------------------------------------------------------------------

    def setup(self, config: AlgorithmConfig) -> None:
        """Start engines, learner and runners. Raises UserError when the cluster cannot hold them."""
        run = self.run_config = RunConfig.model_validate(self.config.run_config)
        self.loop = LoopState()
        self.sampled = []
        self._background = ThreadPoolExecutor(1, "rollout")
        self.callbacks, self.evaluation_config = [self.config.callbacks_class()], self.config
        self.env_to_module_connector = self.module_to_env_connector = None
        self.stream = stream_of(run)
        self.skipped_updates = SkippedUpdates(run.learner.max_skipped_updates)
        if run.rollout.engine.colocate:
            await_resources(run, with_learner=True)
        pairs = reserve_pairs(run)
        pool = launch(run, with_learner=True, placement=pairs)
        self.learner_group = LearnerGroup(
            run.learner, run.model, seed=run.seed, total_steps=run.loop.iterations, placement=pairs
        )  # fmt: skip
        self.rollout_side = start_runners(run, pool, self.logdir, self.trial_id)
        self.rollout_side.watch.on_hang = lambda reason: self.on_hang(reason)
        self.env_runner_group, self.collector = self.rollout_side.runners, self.rollout_side.collector
        self.weight_sync = WeightSync(self.learner_group, pool)
        ask_autoscaler(run)
        self._set_up_metrics()

    def restart_learner(self) -> None:
        """Start the learner's workers anew, after they were lost, without touching engines; then restore."""
        self.settle()
        self._ahead = None
        self.learner_group.restart()
        self.weight_sync.reopen()

    def begin_again(self) -> None:
        """Go back to the start of the run, with the learner as it started."""
        self.set_state({"loop": asdict(LoopState())})
        self.weight_sync.push(0)

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Nothing to do: runners keep nothing between iterations, and the collector asks dead ones to come back."""
        return []

    def cleanup(self) -> None:
        """Stop learner, runners and engines."""
        self.settle()
        super().cleanup()
        if hasattr(self, "rollout_side"):
            self.rollout_side.watch.stop()
            self.rollout_side.pool.shutdown()

    @classmethod
    def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
        """What a Tune trial reserves: the runners and the engines. The learner reserves its own place."""
        run = RunConfig.model_validate(config["run_config"])
        engine = run.rollout.engine
        actors = [{"CPU": run.rollout.runner_cpus}] * run.rollout.runners
        actors += [{"CPU": engine.num_cpus, "GPU": engine.num_gpus}] * engine.count
        bundles = [{name: amount for name, amount in actor.items() if amount} for actor in actors]
        return PlacementGroupFactory([{}, *filter(None, bundles)])

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def save_to_path(self, path: str | Path | None = None, **kwargs: Any) -> str:
        """Write a checkpoint: a Hugging Face folder with `trainer/` (DeepSpeed, loop.json) and RLlib's own files."""
        directory = Path(path or tempfile.mkdtemp(prefix="atommem-"))
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()  # Tune's empty folder: the learner makes its own, which it never does over another
        self.learner_group.save(directory)
        super().save_to_path(directory.absolute(), **kwargs)
        write_text(directory / "trainer" / "loop.json", json.dumps(self.get_state()["loop"]))
        return str(directory)

    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint: learner, loop, and the engines' weights.

        Raises UserError when it is not whole.
        """
        marker = Path(path) / "trainer" / "loop.json"
        try:
            state = json.loads(marker.read_text(encoding="utf-8"))
            loop = LoopState(**state)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} is no whole checkpoint: {marker.name}: {error}") from error
        self.learner_group.load(Path(path))
        self.set_state({"loop": asdict(loop)})
        self.weight_sync.push(self.loop.policy_version)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The loop's state; the learner's is written by `save_to_path`."""
        return {"loop": asdict(self.loop)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a loop's state, without what was sampled for another. RLlib's iteration counter follows it."""
        self.settle()
        self._ahead = None
        self.loop = LoopState(**state["loop"])
        self._iteration = self.loop.step

    def get_checkpointable_components(self) -> list[Any]:
        """None: everything is in the learner's folder and the loop's state."""
        return []
