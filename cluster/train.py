"""A training run around the loop: its directory, evaluations, checkpoints, resuming, and ending cleanly.

The order in which an iteration leaves its traces makes a kill at any moment harmless: a checkpoint is begun, the row
is written, and the checkpoint is committed when it is whole, while the next batch is sampled. A resumed run drops what
lies after the last committed one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.algorithm import GRPO, RESULTS, GRPOConfig
from cluster.config import RunConfig
from cluster.console import console, evaluation_line, iteration_line, working
from cluster.guards import disk_room
from cluster.interruption import Interruption, interruptible
from cluster.mirror import Mirror
from cluster.recovery import Recovery
from cluster.rundir import RunDir, step_of
from cluster.session import ray_session
from cluster.stacks import dump_stacks
from cluster.status import Heartbeat
from cluster.tracking import Tracker
from env.errors import UserError
from env.tasks import make_source
from env.types import Task
from evaluation.evaluate import evaluate
from evaluation.report import write_report
from learner.errors import LearnerError, LearnerSilent
from rollout.errors import StartError
from rollout.record import trajectory_to_json
from rollout.types import Group


def train(config: RunConfig, run: RunDir) -> Path:
    """Run a recipe to its end, from the directory's last checkpoint if it has one; returns the report's path.

    SIGINT ends the run after the iteration in hand, with a checkpoint.
    """
    checkpoint = run.latest()
    if checkpoint is None or step_of(checkpoint) < config.loop.iterations:
        with (
            disk_room(run.path), Heartbeat(run, config.loop.iterations) as heart, ray_session(config.ray),
            _built(config) as algo, interruptible() as interrupted,
        ):  # fmt: skip
            TrainingRun(config, run, algo, checkpoint, heart).go(interrupted)
    return write_report(run.path)


class TrainingRun:
    """One process's share of a run: from the checkpoint it starts at to its last iteration."""

    def __init__(
        self, config: RunConfig, run: RunDir, algo: GRPO, checkpoint: Path | None, heart: Heartbeat
    ) -> None:
        self.config, self.run, self.algo, self.heart = config, run, algo, heart
        algo.on_phase = lambda phase: heart.enter(phase, algo.loop.step + 1)
        heart.alive, heart.events, heart.dump = algo.alive, lambda: algo.events, dump_stacks
        algo.on_hang = self._dump_stacks
        self.held_out, self.mirror = _held_out(config), Mirror.of(config)
        self._told: set[str] = set()  # nodes whose notice is among the events
        self.recovery = Recovery(algo, run, config.learner.max_restarts)
        if checkpoint is not None:
            with working(f"restoring {checkpoint.name}"):
                self._restore(checkpoint)
        run.rewind(algo.loop.step)
        if algo.loop.step:
            console.print(f"resuming {run.path} after iteration {algo.loop.step}")

    def go(self, interrupted: Interruption) -> None:
        """Iterate until the last iteration, or the first one that ends after an interruption.

        A learner that is lost on the way starts again from the last checkpoint.
        """
        while self.algo.loop.step < self.config.loop.iterations and not interrupted:
            try:
                self._go_on(interrupted)
            except LearnerError as error:
                if isinstance(error, LearnerSilent):
                    self._dump_stacks(str(error))
                self.recovery.recover(error)
        if self.mirror and (failure := self.mirror.wait()):
            console.print(f"[red]{failure}[/]")
        if interrupted:
            console.print(f"interrupted after iteration {self.algo.loop.step}: --resume goes on from here")

    def _restore(self, checkpoint: Path) -> None:
        try:
            self.algo.restore_from_path(checkpoint)
        except LearnerError as error:
            self.recovery.recover(error)

    def _dump_stacks(self, reason: str) -> None:
        """Keep what every process was doing when something hung; `reason` says what."""
        path = dump_stacks(self.run.path / "logs")
        self.algo.events.append(f"{reason}; all stacks are in {path}")

    def _go_on(self, interrupted: Interruption) -> None:
        with Tracker(self.config, self.run, self.algo.loop.step) as tracker:
            if self.held_out and self.algo.loop.step == 0 and not self.run.has_evaluation(0):
                self._evaluate(tracker)
            while self.algo.loop.step < self.config.loop.iterations and not interrupted:
                self._iterate(tracker, interrupted)

    def _iterate(self, tracker: Tracker, interrupted: Interruption) -> None:
        loop, start = self.config.loop, time.monotonic()
        step = self.algo.loop.step + 1
        with working(f"iteration {step}"):
            row = self.algo.train()[RESULTS]
        last = step == loop.iterations or bool(interrupted)
        if last or step % loop.checkpoint_every == 0 or self._nodes_leave():
            row["time/checkpoint"] += _seconds(lambda: self._begin_checkpoint(step))
        row["time/evaluate"] = 0.0
        if self.held_out and (step == loop.iterations or (loop.eval_every and step % loop.eval_every == 0)):
            row["time/evaluate"] = _seconds(lambda: self._evaluate(tracker))
        row["time/total"] = time.monotonic() - start
        self._save_trajectories(step, self.algo.sampled)
        tracker.log(row)
        self.heart.finished(row)
        console.print(iteration_line(row, loop.iterations))
        if last:
            self.algo.finish_save()

    def _nodes_leave(self) -> bool:
        """Whether a node was told to leave: as long as it is there, every iteration ends with a checkpoint."""
        leaving = self.algo.leaving()
        for node, when in leaving.items():
            if node not in self._told:
                self.algo.events.append(f"node {node} leaves {when}: a checkpoint after every iteration until then")
        self._told |= leaving.keys()
        return bool(leaving)

    def _commit(self, step: int, made: Path) -> None:
        """The checkpoint becomes the last one; then its copy is begun, after the one before it has ended."""
        if self.mirror and (failure := self.mirror.wait()):
            self.algo.events.append(failure)
        place = self.run.commit(step, made, self.config.loop.keep_checkpoints)
        if self.mirror:
            self.mirror.copy(self.run, place)

    def _begin_checkpoint(self, step: int) -> None:
        """Have a checkpoint written beside its place; committed when it is whole."""
        place = self.run.checkpoint(step)
        made = place.with_name(f"{place.name}.tmp")
        made.parent.mkdir(exist_ok=True)
        self.heart.enter("checkpoint", step)
        self.algo.begin_save(made, lambda: self._commit(step, made))

    def _evaluate(self, tracker: Tracker) -> None:
        step = self.algo.loop.step
        self.algo.settle()
        self.heart.enter("evaluation", step)
        with working(f"evaluation on {len(self.held_out)} held-out tasks"):
            evaluation = evaluate(
                self.algo.collector, self.held_out, self.config.eval_sampling, self.config.loop.eval_seed, step=step
            )
        self.run.write_evaluation(step, evaluation.to_json())
        tracker.log_evaluation(step, evaluation.summary)
        console.print(evaluation_line(step, evaluation.summary))

    def _save_trajectories(self, step: int, groups: list[Group]) -> None:
        """The first `save_trajectories` trajectories, group by group, so that a viewer can compare within a group."""
        trajectories = [trajectory for group in groups for trajectory in group.trajectories]
        kept = trajectories[: self.config.loop.save_trajectories]
        if kept:
            self.run.write_trajectories(step, map(trajectory_to_json, kept))


@contextmanager
def _built(config: RunConfig) -> Iterator[GRPO]:
    algo = _start(config)
    try:
        yield algo
    finally:
        algo.stop()


def _start(config: RunConfig, attempt: int = 1) -> GRPO:
    """The loop with all its actors up. When one dies meanwhile, all start again, `loop.start_attempts` times in all."""
    try:
        with working("starting engines, learner and runners"):
            return GRPOConfig().run(config).build_algo()
    except (StartError, LearnerError) as error:
        if attempt >= config.loop.start_attempts:
            raise UserError(f"{error} (attempt {attempt} of loop.start_attempts)") from error
        console.print(f"[red]{error}[/]: starting again")
    return _start(config, attempt + 1)


def _held_out(config: RunConfig) -> list[Task]:
    """The held-out tasks: the same ones whatever the run's seed."""
    if not config.loop.eval_episodes:
        return []
    source = make_source(config.env, "eval", config.loop.eval_seed)
    return [source[index] for index in range(min(config.loop.eval_episodes, len(source)))]


def _seconds(work: Callable[[], object]) -> float:
    """Seconds that a call took."""
    start = time.monotonic()
    work()
    return time.monotonic() - start
