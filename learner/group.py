"""The learner's driver side: W DeepSpeed workers that act as one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from env.errors import UserError
from learner.advantages import imitation_weights, policy_weights
from learner.batching import plan
from learner.checkpoint import STATE, TRAINER, read_manifest, write_manifest, written_beside
from learner.config import LearnerConfig, OptimizerConfig
from learner.errors import LearnerError, LearnerSilent
from learner.metrics import batch_metrics, mean_metrics
from learner.model import check_model, load_tokenizer
from learner.optimization import zero_stage
from learner.start import reserve, start_worker
from learner.types import TrainSequence
from learner.universal import universal_copy
from learner.worker import Loss

_PING_S = 5.0


class LearnerGroup:
    """Starts the workers, spreads batches over them, and returns metrics of whole batches.

    Args: ``model_path`` is the starting policy (a directory, or a name that transformers resolves) and, with a KL
    term, the frozen reference; ``optimizer`` replaces ``config.optimizer``; ``total_steps`` is the number of updates
    that a decaying schedule needs; ``placement`` has a bundle per worker (None: one is reserved).
    Raises UserError when the model does not load, or when the cluster has had no
    room for the workers for ``config.start_timeout_s``.
    """

    def __init__(
        self,
        config: LearnerConfig,
        model_path: str,
        *,
        seed: int,
        optimizer: OptimizerConfig | None = None,
        total_steps: int | None = None,
        placement: PlacementGroup | None = None,
    ) -> None:
        check_model(model_path)
        self.tokenizer = load_tokenizer(model_path)
        self.config = config
        self.seed = seed
        self.updates = 0  # calls of `update` so far; part of the checkpoint
        self.workers: list[Any] = []
        self._start = (model_path, config, optimizer or config.optimizer, total_steps, seed)
        self._placement = placement or reserve(config)
        try:
            self._start_workers()
        except BaseException:
            self.shutdown()
            raise

    def _start_workers(self) -> None:
        ranks = range(self.config.workers)
        self.workers = [start_worker(self.config, self._placement, rank) for rank in ranks]
        try:
            address = ray.get(self.workers[0].address.remote(), timeout=self.config.start_timeout_s)
        except RayActorError as error:
            raise LearnerError(f"learner rank 0 died while it started: {_first(error)}") from error
        self.call("setup", *self._start, address)

    def restart(self) -> None:
        """End the workers, whatever they are doing, and start others as at the beginning: then `load` a checkpoint.

        Bundles that were on a lost node are reserved again by Ray. Raises LearnerError when that finds no room.
        """
        self._kill_workers()
        self.updates = 0
        try:
            self._start_workers()
        except (GetTimeoutError, RayActorError) as error:
            within = f"learner.start_timeout_s = {self.config.start_timeout_s:g} s"
            raise LearnerError(f"the learner did not start again within {within}: {_first(error)}") from error

    def update(self, batch: Sequence[TrainSequence], loss: Loss = "grpo") -> dict[str, float]:
        """Train on the batch: one update, or ``epochs * updates_per_batch`` with the policy loss.

        Returns means per token: loss, entropy, kl, clip/low, clip/high, mismatch/mean_abs, mismatch/kl; and grad_norm
        (before clipping), lr, tokens (output tokens), updates/skipped, memory/learner_mb. An update whose gradient is
        not finite is skipped and leaves the policy as it was.
        """
        grpo = self.config.grpo
        if loss == "sft" or grpo.epochs * grpo.updates_per_batch == 1:
            results = [self._step(batch, loss, None)]
        else:
            results = self._several_steps(batch)
        self.updates += 1
        return mean_metrics(results)

    def gradients(self, batch: Sequence[TrainSequence], loss: Loss = "grpo") -> dict[str, np.ndarray]:
        """The gradient of one update, before clipping, by Hugging Face name. The update is applied."""
        self._step(batch, loss, None, keep_gradients=True)
        return self.call("gradients")[0]

    def weights(self, dtype: str = "bfloat16") -> list[ray.ObjectRef]:
        """The policy as safetensors bytes in the object store, in buckets: Hugging Face names, adapters merged."""
        return self.call("weights", dtype)[0]

    def save(self, directory: Path, trainer_state: bool = True) -> None:
        """Write a checkpoint (learner/checkpoint.py), whole or not at all; without ``trainer_state`` only the model.

        Raises UserError when it exists already.
        """
        self.begin_save(directory, trainer_state)()

    def begin_save(self, directory: Path, trainer_state: bool = True) -> Callable[[], None]:
        """As `save`, while the caller goes on: the workers take up no other call before it is written.

        Returns what waits for them, and raises what `save` raises; ``directory`` is there afterwards.
        """
        place = ExitStack()
        beside = place.enter_context(written_beside(directory.absolute()))
        answers, updates = self._ask("save", beside, trainer_state), self.updates

        def finish() -> None:
            with place:
                self._answers("save", answers)
                self.tokenizer.save_pretrained(beside)
                if trainer_state:
                    write_manifest(beside, updates, self.config.workers, zero_stage(self.config))

        return finish

    def load(self, directory: Path) -> None:
        """Restore weights, optimizer, schedule, random states and the count of updates from a checkpoint.

        The checkpoint may be of another number of workers. Raises UserError, before anything changes, when a part is
        missing, cut short, or of another ZeRO stage.
        """
        directory, stage = directory.absolute(), zero_stage(self.config)
        manifest = read_manifest(directory, stage)
        if manifest["workers"] == self.config.workers or stage == 0:
            self.call("load", directory, None)
        else:
            with universal_copy(directory / TRAINER / STATE) as universal:
                self.call("load", directory, universal)
        self.updates = manifest["updates"]

    def call(self, method: str, *args: Any, each: Sequence[Any] | None = None) -> list[Any]:
        """Run a collective method on all workers; ``each`` gives every worker its own first argument.

        Raises LearnerError when a worker dies meanwhile, LearnerSilent when one owes its answer for
        ``config.step_timeout_s``.
        """
        return self._answers(method, self._ask(method, *args, each=each))

    def _ask(self, method: str, *args: Any, each: Sequence[Any] | None = None) -> list[ray.ObjectRef]:
        first = [()] * len(self.workers) if each is None else [(value,) for value in each]
        return [getattr(worker, method).remote(*own, *args) for worker, own in zip(self.workers, first, strict=True)]

    def _answers(self, method: str, pending: list[ray.ObjectRef]) -> list[Any]:
        try:
            return ray.get(pending, timeout=self.config.step_timeout_s)
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from error
            if dead := self._dead():  # the others fail too, in whatever they wanted of the dead one
                raise LearnerError(f"learner rank {dead[0]} died in '{method}'") from error
            raise
        except RayActorError as error:
            raise LearnerError(f"a learner worker died in '{method}': {_first(error)}") from error
        except GetTimeoutError as error:
            silent = [rank for rank, answer in enumerate(pending) if not ray.wait([answer], timeout=0)[0]]
            raise LearnerSilent(
                f"no answer to '{method}' from learner ranks {silent} for {self.config.step_timeout_s:g} s"
            ) from error

    def _dead(self) -> list[int]:
        """Ranks whose process is gone. One that is busy cannot answer, but lives."""
        answers = [worker.alive.remote() for worker in self.workers]
        ray.wait(answers, num_returns=len(answers), timeout=_PING_S)
        dead = []
        for rank, answer in enumerate(answers):
            try:
                ray.get(answer, timeout=0)
            except RayActorError:
                dead.append(rank)
            except GetTimeoutError:
                continue
        return dead

    def shutdown(self) -> None:
        """Stop the workers and free their resources."""
        self._kill_workers()
        remove_placement_group(self._placement)

    def _kill_workers(self) -> None:
        for worker in self.workers:
            ray.kill(worker)
        self.workers = []

    def _several_steps(self, batch: Sequence[TrainSequence]) -> list[dict[str, float]]:
        """PPO-style: old log-probabilities once, then shuffled parts of whole trajectories, ``epochs`` times."""
        old = self._old_logprobs(batch)
        trajectories = sorted({sequence.trajectory for sequence in batch})
        shuffle = random.Random(f"{self.seed}/{self.updates}")
        parts = min(self.config.grpo.updates_per_batch, len(trajectories))
        results = []
        for _ in range(self.config.grpo.epochs):
            shuffle.shuffle(trajectories)
            part_of = {trajectory: place % parts for place, trajectory in enumerate(trajectories)}
            for part in range(parts):
                rows = [row for row, sequence in enumerate(batch) if part_of[sequence.trajectory] == part]
                results.append(self._step([batch[row] for row in rows], "grpo", [old[row] for row in rows]))
        return results

    def _old_logprobs(self, batch: Sequence[TrainSequence]) -> list[np.ndarray]:
        shares = self._plan(batch, "grpo", None)
        old: dict[int, np.ndarray] = {}
        for share, scored in zip(shares, self.call("score", each=shares), strict=True):
            for micro_batch, values in zip(share, scored, strict=True):
                old.update(micro_batch.split(values, batch))
        return [old[row] for row in range(len(batch))]

    def _step(
        self, batch: Sequence[TrainSequence], loss: Loss, old: list[np.ndarray] | None, keep_gradients: bool = False
    ) -> dict[str, float]:
        return batch_metrics(self.call("update", loss, keep_gradients, each=self._plan(batch, loss, old)))

    def _plan(self, batch: Sequence[TrainSequence], loss: Loss, old: list[np.ndarray] | None) -> list[Any]:
        weights = imitation_weights(batch) if loss == "sft" else policy_weights(batch, self.config.grpo)
        return plan(
            batch,
            weights,
            workers=self.config.workers,
            budget=self.config.micro_batch_tokens,
            logit_rows=self.config.logit_chunk_tokens,
            share_prefixes=self.config.share_prefixes,
            old_logprobs=old,
        )


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
