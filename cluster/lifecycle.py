"""What RLlib asks of an Algorithm beside its step: starting, stopping, checkpoints."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.util.placement_group import remove_placement_group

from cluster.config import RunConfig
from cluster.elastic import ask_autoscaler, leaving_nodes
from cluster.guards import SkippedUpdates
from cluster.loop import Batch, LoopState
from cluster.resources import await_resources, reserve_pairs
from cluster.rollouts import launch, start_runners, stream_of
from cluster.rundir import write_text
from env.errors import UserError
from learner.group import LearnerGroup
from learner.weight_sync import WeightSync
from rollout.types import Group


class Lifecycle(Algorithm):
    """Holds engines, runners and learner from setup to cleanup, and the loop's state across checkpoints."""

    run_config: RunConfig
    loop: LoopState
    sampled: list[Group]  # in the last iteration, dropped groups included
    on_hang: Callable[[str], None] = staticmethod(lambda reason: None)  # told before what hangs is ended
    _ahead: Future[Batch] | None = None  # the next batch, being sampled while the learner works
    _background: ThreadPoolExecutor
    _saving: Callable[[], None] | None = None  # ends the checkpoint that the learner is writing

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
        self._start_actors(run)
        self.rollout_side.watch.on_hang = lambda reason: self.on_hang(reason)
        self.env_runner_group, self.collector = self.rollout_side.runners, self.rollout_side.collector
        self.weight_sync = WeightSync(self.learner_group, self.rollout_side.pool)
        ask_autoscaler(run)
        self._set_up_metrics()

    def _start_actors(self, run: RunConfig) -> None:
        """Engines load while the learner starts. When one fails, all are ended and give their room back."""
        if run.rollout.engine.colocate:
            await_resources(run, with_learner=True)
        with ExitStack() as undo:
            if pairs := reserve_pairs(run):
                undo.callback(remove_placement_group, pairs)
            pool = launch(run, with_learner=True, placement=pairs)
            undo.callback(pool.shutdown)
            self.learner_group = LearnerGroup(
                run.learner, run.model, seed=run.seed, total_steps=run.loop.iterations, placement=pairs
            )  # fmt: skip
            undo.callback(self.learner_group.shutdown)
            self.rollout_side = start_runners(run, pool, self.logdir, self.trial_id)
            undo.pop_all()

    def restart_learner(self) -> None:
        """Start the learner's workers anew, after they were lost, without touching engines; then restore."""
        self.settle()
        self._ahead = self._saving = None
        self.learner_group.restart()
        self.weight_sync.reopen()

    def begin_again(self) -> None:
        """Go back to the start of the run, with the learner as it started."""
        self.set_state({"loop": asdict(LoopState())})
        self.weight_sync.push(0)

    def leaving(self) -> dict[str, str]:
        """Nodes that were told to leave, and when: see `cluster.elastic`."""
        return leaving_nodes()

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Nothing to do: runners keep nothing between iterations, and the collector asks dead ones to come back."""
        return []

    def settle(self) -> None:
        """Wait until no episode is being played, so that the collector is free for others (evaluation)."""
        if self._ahead is not None:
            wait([self._ahead])

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
        self.begin_save(directory, **kwargs)
        self.finish_save()
        return str(directory)

    def begin_save(self, directory: Path, then: Callable[[], object] = lambda: None, **kwargs: Any) -> None:
        """As `save_to_path`, while the next batch is sampled; `then` is called when it is whole, before an update."""
        self.finish_save()
        written, loop = self.learner_group.begin_save(directory), json.dumps(self.get_state()["loop"])

        def finish() -> None:
            written()
            super(Lifecycle, self).save_to_path(directory.absolute(), **kwargs)
            write_text(directory / "trainer" / "loop.json", loop)
            then()

        self._saving = finish

    def finish_save(self) -> None:
        """Wait for the checkpoint that is being written, if there is one. Raises LearnerError as an update does."""
        finish, self._saving = self._saving, None
        if finish is not None:
            finish()

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
