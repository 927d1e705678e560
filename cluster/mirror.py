"""A second copy of a run's checkpoints at any fsspec URL (s3://, gs://, file://), written while the run goes on.

    <url>/<name>/config.yaml, metrics.jsonl, evaluations/
    <url>/<name>/checkpoints/step_000010/..., LATEST

LATEST is written last, so it names a whole checkpoint. A machine that has nothing of the run fetches it from there.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec

from cluster.config import RunConfig
from cluster.rundir import RunDir, step_of
from env.errors import UserError

logger = logging.getLogger(__name__)

MARKER = "checkpoints/LATEST"
BESIDE = ("config.yaml", "metrics.jsonl", "evaluations")  # what goes along with a checkpoint


class Mirror:
    """Copies one checkpoint at a time, in a thread.

    Args:
        url: of the place that holds the runs.
        name: of the run.
        keep: newest checkpoints that stay there.
    """

    def __init__(self, url: str, name: str, keep: int) -> None:
        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UserError(f"loop.mirror {url!r} cannot be used: {error}") from error
        self._root, self._keep = f"{root.rstrip('/')}/{name}", keep
        self._thread = ThreadPoolExecutor(1, "mirror")
        self._under_way: Future[None] | None = None

    @classmethod
    def of(cls, config: RunConfig) -> Mirror | None:
        """The run's mirror, if it has one."""
        loop = config.loop
        return cls(loop.mirror, config.name, loop.keep_checkpoints) if loop.mirror else None

    def copy(self, run: RunDir, checkpoint: Path) -> None:
        """Begin to copy a committed checkpoint and what belongs to it; returns at once."""
        self._under_way = self._thread.submit(self._copy, run.path, checkpoint)

    def wait(self) -> str | None:
        """Wait for the copy under way, before its source may be pruned; returns why it failed, or None."""
        try:
            if self._under_way is not None:
                self._under_way.result()
        except OSError as error:  # the next checkpoint is another chance
            logger.warning("copying a checkpoint to %s failed: %s", self._root, error)
            return f"copying a checkpoint to {self._root} failed: {error}"
        finally:
            self._under_way = None
        return None

    def fetch(self, run: RunDir) -> bool:
        """Fill an empty run directory from the last whole copy; returns False when there is none."""
        if run.config.exists() or not self._files.exists(f"{self._root}/{MARKER}"):
            return False
        latest = self._files.cat_file(f"{self._root}/{MARKER}").decode().strip()
        for name in (*BESIDE, f"checkpoints/{latest}", MARKER):
            for remote in self._files.find(f"{self._root}/{name}"):
                local = run.path / str(remote).split(f"{self._root}/", 1)[-1]
                local.parent.mkdir(parents=True, exist_ok=True)
                self._files.get_file(remote, str(local))
        return True

    def _copy(self, run: Path, checkpoint: Path) -> None:
        for name in (*BESIDE, f"checkpoints/{checkpoint.name}"):
            source = run / name
            for file in [source] if source.is_file() else sorted(source.rglob("*")):
                if file.is_file():
                    self._put(file, file.relative_to(run))
        self._files.pipe_file(f"{self._root}/{MARKER}", checkpoint.name.encode())
        self._prune()

    def _put(self, file: Path, relative: Path) -> None:
        target = f"{self._root}/{relative.as_posix()}"
        self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self._files.put_file(str(file), target)

    def _prune(self) -> None:
        listed: list[Any] = self._files.ls(f"{self._root}/checkpoints", detail=False)
        steps = sorted((path for path in map(Path, listed) if path.name.startswith("step_")), key=step_of)
        for old in steps[: -self._keep]:
            self._files.rm(f"{self._root}/checkpoints/{old.name}", recursive=True)
