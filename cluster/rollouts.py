"""The sampling half of a run: engines, runners and their collector. Training adds a learner, `rollout` does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.util import get_current_placement_group
from ray.util.placement_group import PlacementGroup

from cluster.config import RunConfig
from cluster.resources import await_resources
from cluster.session import ray_session
from env.tasks import TaskStream, make_source
from env.tokenizer import ChatTokenizer
from rollout.collector import GroupCollector
from rollout.config import SamplingConfig
from rollout.errors import RolloutError, StartError
from rollout.pool import EnginePool
from rollout.runner import EnvFactory, MemoryEnvRunner
from rollout.start import await_engines, launch_engines, start_error
from rollout.types import GroupRequest
from rollout.watch import EngineWatch

SEEDS_PER_RUN = 1 << 32
Environments = partial[EnvFactory]  # of the sections and the tokenizer, see MemoryEnvRunner


@dataclass
class RolloutSide:
    """What plays episodes."""

    pool: EnginePool
    runners: EnvRunnerGroup
    collector: GroupCollector
    watch: EngineWatch

    def stop(self) -> None:
        """Stop runners and engines."""
        self.watch.stop()
        self.runners.stop()
        self.pool.shutdown()


class SpreadRunners(EnvRunnerGroup):
    """RLlib's group with its runners spread over the nodes; within a Tune trial they stay where that has reserved."""

    def _make_worker(self, **kwargs: Any) -> Any:
        if get_current_placement_group() is None:
            self._remote_args["scheduling_strategy"] = "SPREAD"
        return super()._make_worker(**kwargs)


def launch(run: RunConfig, with_learner: bool = False, placement: PlacementGroup | None = None) -> EnginePool:
    """Ask for the engines; they load while other things start. ``placement`` holds colocated pairs.

    Raises UserError for a model without tokenizer and for a cluster too small for the run's actors.
    """
    ChatTokenizer(run.model)
    if placement is None:
        await_resources(run, with_learner)
    return launch_engines(
        run.model, run.rollout.engine, seed=run.seed, namespace_prefix=run.name, placement=placement
    )  # fmt: skip


def start_runners(
    run: RunConfig, pool: EnginePool, logdir: str | None = None, trial: str | None = None,
    environments: Environments | None = None,
) -> RolloutSide:
    """Wait for the engines, then start the runners. Raises RolloutError when the cluster cannot hold them."""
    await_engines(pool)
    runners = SpreadRunners(
        config=_runner_config(run, pool, environments), local_env_runner=False, logdir=logdir, tune_trial_id=trial,
        pg_offset=-1,  # a trial's first bundle is the first runner's
    )  # fmt: skip
    try:
        _await_runners(run, runners)
    except RolloutError:
        runners.stop()
        raise
    return RolloutSide(pool, runners, GroupCollector(runners, run.rollout), EngineWatch(pool).start())


@contextmanager
def rollout_side(run: RunConfig, environments: Environments | None = None) -> Iterator[RolloutSide]:
    """Engines, runners and collector for the length of a block, on a Ray of the run's own if none is there.

    `environments` are what the runners make instead of MemoryEnvs (see MemoryEnvRunner)."""
    with ray_session(run.ray):
        side = start_runners(run, launch(run), environments=environments)
        try:
            yield side
        finally:
            side.stop()


def stream_of(run: RunConfig) -> TaskStream:
    """The run's stream of training tasks."""
    return TaskStream(make_source(run.env, "train", run.seed), run.seed)


def requests_for(
    run: RunConfig, stream: TaskStream, positions: Sequence[int], group_size: int, sampling: SamplingConfig
) -> list[GroupRequest]:
    """One request per position of the stream. Seeds depend on the run's seed and the position alone."""
    return [
        GroupRequest(
            group_id=position, task=stream.at(position), group_size=group_size, sampling=sampling,
            seed=(run.seed * SEEDS_PER_RUN + position) % (1 << 63),
        )
        for position in positions
    ]


def _await_runners(run: RunConfig, runners: EnvRunnerGroup) -> None:
    """Wait until all runners are up, or say why they are not."""
    rollout, timeout = run.rollout, run.rollout.engine.start_timeout_s
    answers = runners.foreach_env_runner(
        "assert_healthy", local_env_runner=False, timeout_seconds=timeout, return_obj_refs=True
    )
    try:
        ray.get(answers)
    except RayError as error:
        raise StartError(f"an environment runner could not start: {start_error(error)}") from error
    if len(answers) < rollout.runners:
        total, free = ray.cluster_resources(), ray.available_resources()
        raise RolloutError(
            f"{len(answers)} of rollout.runners = {rollout.runners} environment runners started within {timeout:g} s: "
            f"asked for {rollout.runner_cpus:g} CPU each; the cluster has {total.get('CPU', 0):g} CPU "
            f"({free.get('CPU', 0):g} free)"
        )


def _runner_config(run: RunConfig, pool: EnginePool, environments: Environments | None) -> AlgorithmConfig:
    """RLlib's configuration of the runners; a dead one is started again."""
    spec: dict[str, Any] = {
        "env": run.env.model_dump(), "rollout": run.rollout.model_dump(), "tokenizer": run.model, "pool": pool,
    }  # fmt: skip
    if environments is not None:
        spec["environments"] = environments
    config = AlgorithmConfig().environment(env_config=spec)
    config.env_runners(
        env_runner_cls=MemoryEnvRunner,
        num_env_runners=run.rollout.runners,
        num_cpus_per_env_runner=run.rollout.runner_cpus,
        create_local_env_runner=False,
        validate_env_runners_after_construction=False,  # that would wait for ever: see _await_runners
    )
    config.fault_tolerance(restart_failed_env_runners=True)
    config.freeze()
    return config
