"""Where an iteration's row goes: metrics.jsonl always, TensorBoard, and Weights & Biases when configured."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import TracebackType
from typing import Any

from cluster.config import RunConfig
from cluster.metrics import finite
from cluster.prometheus import RayMetrics
from cluster.rundir import RunDir
from env.errors import UserError


class Tracker:
    """Writes rows to every configured place; a context manager.

    `step` is the iteration the run goes on from: what TensorBoard has beyond it is hidden.
    """

    def __init__(self, config: RunConfig, run: RunDir, step: int) -> None:
        self._run = run
        self._tensorboard = _tensorboard(run.tensorboard, step) if config.tracking.tensorboard else None
        self._wandb = _wandb(config, run) if config.tracking.wandb_project else None
        self._ray = RayMetrics(config.name) if config.tracking.prometheus else None

    def log(self, row: dict[str, float]) -> None:
        """One iteration's metrics; `row["step"]` is its number from 1."""
        step = int(row["step"])
        self._run.append_metrics(finite(row))
        if self._ray:
            self._ray.set(row)
        self._scalars(step, {key: value for key, value in row.items() if key != "step"})

    def log_evaluation(self, step: int, summary: dict[str, Any]) -> None:
        """The means of a held-out evaluation after `step` iterations."""
        intervals = {key: value for key, value in summary.items() if isinstance(value, dict) and "mean" in value}
        self._scalars(step, {f"evaluation/{key}": value["mean"] for key, value in intervals.items()})

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        if self._tensorboard:
            for key, value in values.items():
                self._tensorboard.add_scalar(key, value, step)
            self._tensorboard.flush()
        if self._wandb:
            self._wandb.log(values, step=step)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tensorboard:
            self._tensorboard.close()
        if self._wandb:
            self._wandb.finish(exit_code=0 if error is None else 1)


def _tensorboard(path: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(path), purge_step=step + 1 if step else None)


def _wandb(config: RunConfig, run: RunDir) -> Any:
    if importlib.util.find_spec("wandb") is None:
        raise UserError("tracking.wandb_project is set, but the package wandb is not installed: pip install wandb")
    import wandb

    return wandb.init(
        project=config.tracking.wandb_project, name=config.name, id=config.name, resume="allow",
        dir=str(run.path), config=config.model_dump(mode="json"),
    )
