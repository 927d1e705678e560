"""Going on after the learner was lost: from the last checkpoint, with the engines and runners that are there."""

from __future__ import annotations

from cluster.algorithm import GRPO
from cluster.console import console
from cluster.rundir import RunDir
from env.errors import UserError
from learner.errors import LearnerError


class Recovery:
    """Restarts the learner, a limited number of times without a new checkpoint in between.

    Args:
        algo: the loop, whose engines and runners live on.
        run: the run's directory.
        limit: `learner.max_restarts`.
    """

    def __init__(self, algo: GRPO, run: RunDir, limit: int) -> None:
        self._algo, self._run, self._limit = algo, run, limit
        self._restarts, self._from = 0, -1

    def recover(self, error: LearnerError) -> None:
        """Go back to the last checkpoint, or to the start. Raises UserError when that does not help any more."""
        while True:
            try:
                return self._go_back(error)
            except LearnerError as again:
                error = again

    def _go_back(self, error: LearnerError) -> None:
        checkpoint = self._run.latest()
        step = 0 if checkpoint is None else int(checkpoint.name.removeprefix("step_"))
        self._restarts = self._restarts + 1 if step == self._from else 1
        self._from = step
        if self._restarts > self._limit:
            raise UserError(
                f"the learner was lost {self._restarts} times after iteration {step} (learner.max_restarts = "
                f"{self._limit}); the last time: {error}"
            ) from error
        self._algo.events.append(f"{error}; the learner starts again from iteration {step}")
        console.print(f"[red]{error}[/]: the learner starts again from iteration {step}")
        self._algo.restart_learner()
        if checkpoint is None:
            self._algo.begin_again()
        else:
            self._algo.restore_from_path(checkpoint)
        self._run.rewind(step)
