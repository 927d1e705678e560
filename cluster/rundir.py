"""A run's directory: what a run writes, each file whole or not there, and what a resumed run takes back.

    config.yaml, metrics.jsonl, evaluations/, trajectories/, checkpoints/{LATEST, step_000005/}, tensorboard/
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from cluster.config import RunConfig
from cluster.recipes import changed, dump
from env.errors import UserError

LOCK = ".lock"
NO_RUN = ("config.yaml", "status.json", LOCK)  # what a run leaves that never came to a result
# What a resumed run may change: how long it goes on, where it runs, what it reports. Not what it learns from.
MAY_CHANGE = (
    *("loop.", "ray.", "tracking.", "run_dir"),
    *("rollout.engine.", "rollout.runner", "rollout.max_runners", "rollout.attempts"),
    *("learner.workers", "learner.num_", "learner.start_timeout_s", "learner.step_timeout_s", "learner.max_"),
)


class RunDir:
    """The directory of one run. Steps count finished iterations; `step_000000` is before the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"

    @classmethod
    def open(cls, config: RunConfig, resume: bool) -> RunDir:
        """The run to go on with if `resume` is set and there is one, else a new one."""
        there = resume and cls(config.directory).config.exists()
        return cls.reopen(config) if there else cls.create(config)

    @classmethod
    def create(cls, config: RunConfig) -> RunDir:
        """A new run's directory. Raises UserError when the place holds another run, or anything else.

        What a run leaves that never came to a result (its configuration) is no run.
        """
        run = cls(config.directory)
        if run.config.exists() and any(run.path.glob("*/*")):
            raise UserError(
                f"{run.path} holds another run: go on with it by --resume, or choose another place by --set name=..."
            )
        others = run.path.is_file() or any(path.name not in NO_RUN for path in run.path.glob("*"))
        if others:
            raise UserError(f"{run.path} is not empty and holds no run: choose another place by --set run_dir=...")
        run._take(config)
        return run

    @classmethod
    def reopen(cls, config: RunConfig) -> RunDir:
        """The directory of the run to go on with.

        Raises UserError when there is none, or when it was made by another configuration.
        """
        run = cls(config.directory)
        if not run.config.is_file():
            raise UserError(f"{run.path} holds no run to resume")
        stored = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise UserError(f"{run.config}: not the configuration of a run")
        differences = [d for d in changed(stored, config.model_dump(mode="json")) if not d.startswith(MAY_CHANGE)]
        if differences:
            raise UserError(f"{run.path} was made by another configuration: {', '.join(differences[:3])}")
        run._take(config)
        return run

    def _take(self, config: RunConfig) -> None:
        """Make the directory this process's own, as long as it lives, and write the configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{self.path} is in use by another process") from error
        write_text(self.config, dump(config))

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint after `step` iterations lies."""
        return self.checkpoints / step_name(step)

    def commit(self, step: int, made: Path, keep: int) -> Path:
        """Move a finished checkpoint to its place, mark it as the latest, and remove all but the `keep` newest."""
        place = self.checkpoint(step)
        if place.exists():
            shutil.rmtree(place)
        os.replace(made, place)
        write_text(self.checkpoints / "LATEST", place.name)
        for old in self._steps()[:-keep]:
            shutil.rmtree(old)
        return place

    def latest(self) -> Path | None:
        """The last committed checkpoint. Raises UserError when the marker names one that is gone."""
        marker = self.checkpoints / "LATEST"
        if not marker.is_file():
            return None
        place = self.checkpoints / marker.read_text(encoding="utf-8").strip()
        if not place.is_dir():
            raise UserError(f"{marker} names {place.name}, which is not there")
        return place

    def _steps(self) -> list[Path]:
        return sorted(path for path in self.checkpoints.glob("step_*") if path.is_dir() and not path.suffix)

    # -- results -------------------------------------------------------------------------------------------------------

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one iteration's row."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write_evaluation(self, step: int, evaluation: dict[str, Any]) -> None:
        """Write one evaluation, as JSON."""
        write_text(self.path / "evaluations" / f"{step_name(step)}.json", json.dumps(evaluation, indent=1))

    def has_evaluation(self, step: int) -> bool:
        """Whether the policy after `step` iterations has been evaluated."""
        return (self.path / "evaluations" / f"{step_name(step)}.json").is_file()

    def write_trajectories(self, step: int, trajectories: Iterable[dict[str, Any]]) -> None:
        """Write sampled trajectories of one iteration, one JSON object a line."""
        lines = "".join(json.dumps(trajectory) + "\n" for trajectory in trajectories)
        write_text(self.path / "trajectories" / f"{step_name(step)}.jsonl", lines)

    def rewind(self, step: int) -> None:
        """Take back what was written after `step`, so that iterations done again leave no gap and no duplicate."""
        if self.metrics.is_file():
            write_text(self.metrics, "".join(self._rows_until(step)))
        for folder, suffix in (("evaluations", ".json"), ("trajectories", ".jsonl")):
            for path in (self.path / folder).glob(f"step_*{suffix}"):
                if step_of(path) > step:
                    path.unlink()
        for path in [*self.checkpoints.glob("step_*"), *self.checkpoints.glob(".step_*")]:
            if path.suffix or step_of(path) > step:  # a suffix: not committed, or not even whole
                shutil.rmtree(path)

    def _rows_until(self, step: int) -> Iterable[str]:
        """The rows up to a step; a torn last line belongs to an iteration that was not finished."""
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if row["step"] <= step:
                yield line + "\n"


def step_name(step: int) -> str:
    """The name under which a step's files are kept, e.g. `step_000005`."""
    return f"step_{step:06d}"


def step_of(path: Path) -> int:
    """The step that a file or folder of a run belongs to."""
    return int(path.name.removeprefix("step_").split(".")[0])


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and move it there when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
