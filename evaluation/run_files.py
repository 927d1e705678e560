"""Reading a run directory, finished or not: configuration, metrics, evaluations, sampled trajectories."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from env.errors import UserError
from evaluation.evaluate import Evaluation


@dataclass
class Run:
    """What a run directory holds. `metrics` has one dict per iteration, `evaluations` are ordered by step."""

    directory: Path
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    evaluations: list[Evaluation]
    trajectory_files: list[Path]

    @property
    def name(self) -> str:
        return str(self.config.get("name") or self.directory.resolve().name)

    def setting(self, path: str, default: Any = None) -> Any:
        """A value of the configuration by its dotted path, e.g. ``rollout.group_size``."""
        value: Any = self.config
        for key in path.split("."):
            if not isinstance(value, dict) or key not in value:
                return default
            value = value[key]
        return value

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """Steps and values of a metric, where it is there and finite."""
        pairs = [(row["step"], row[key]) for row in self.metrics if _is_finite(row.get(key))]
        return [float(step) for step, _ in pairs], [float(value) for _, value in pairs]


def load_run(directory: Path) -> Run:
    """Read a run directory.

    Raises UserError when it is not one, has no finished iteration yet, or holds a file that cannot be read.
    """
    config_file, metrics_file = directory / "config.yaml", directory / "metrics.jsonl"
    if not config_file.is_file():
        raise UserError(f"{directory} is not a run directory: it has no config.yaml")
    metrics = [row for _, row in read_jsonl(metrics_file)] if metrics_file.is_file() else []
    if not metrics:
        raise UserError(f"{metrics_file} has no finished iteration yet: nothing to report")
    if not all(_is_finite(row.get("step")) for row in metrics):
        raise UserError(f"{metrics_file}: every line needs a number 'step'")
    return Run(
        directory,
        _read_config(config_file),
        metrics,
        sorted(map(_read_evaluation, (directory / "evaluations").glob("step_*.json")), key=lambda e: e.step),
        sorted((directory / "trajectories").glob("*.jsonl"), key=_by_step),
    )


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects. A torn last line (no line end) is still being written, and left out.

    Raises UserError, naming the line, when another line is not a JSON object.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                if not line.endswith("\n"):
                    return
                raise UserError(f"{path}, line {number}: not JSON ({error.msg})") from error
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
            yield number, row


def _by_step(path: Path) -> tuple[str, bool]:
    """Training (step_000005) before held-out (eval_000005) of the same step."""
    kind, _, step = path.stem.partition("_")
    return step, kind == "eval"


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a mapping, found {type(config).__name__}")
    return config


def _read_evaluation(path: Path) -> Evaluation:
    try:
        return Evaluation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(f"{path}: not an evaluation ({error})") from error


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
