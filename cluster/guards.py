"""What a run watches for beside its metrics: updates that are skipped, tasks that never work, a disk that is full."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ray.exceptions import RayTaskError

from env.errors import UserError
from rollout.attempts import failed_whole
from rollout.types import Group

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded")  # what libraries make of the same


class SkippedUpdates:
    """Counts updates in a row that were left out because their gradient was not finite.

    Args:
        limit: so many in a row stop the run: the policy does not come back from that by itself.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._row = limit, 0

    def note(self, skipped: float) -> None:
        """One iteration, in which so many updates were skipped. Raises UserError at the limit."""
        self._row = self._row + 1 if skipped else 0
        if self._row >= self._limit:
            raise UserError(
                f"{self._row} iterations in a row had an update whose gradient is not finite "
                f"(learner.max_skipped_updates = {self._limit}): start anew from an earlier checkpoint (model), with "
                "a smaller learner.optimizer.lr or in float32"
            )


def poisoned(groups: Sequence[Group]) -> list[str]:
    """Tasks of which every episode failed in every attempt, and not for the engines: they are not sampled again."""
    return [group.task_id for group in groups if failed_whole(group)]


@contextmanager
def disk_room(path: Path) -> Iterator[None]:
    """Turn a full disk, met by any process of the run, into one sentence. What was committed before stays whole."""
    try:
        yield
    except (OSError, RuntimeError, RayTaskError) as error:
        if not _is_full(error):
            raise
        free = shutil.disk_usage(_existing(path)).free / 2**20
        raise UserError(
            f"the disk of {path} is full ({free:.0f} MiB free): make room or lower loop.keep_checkpoints, then --resume"
        ) from error


def _is_full(error: BaseException) -> bool:
    cause = getattr(error, "cause", None) or error
    return getattr(cause, "errno", None) in _FULL or any(text in str(error) for text in _FULL_TEXTS)


def _existing(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
