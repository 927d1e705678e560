"""What an evaluation runs: its suites' tasks, and a cell for every suite with every variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.config import RunConfig
from cluster.recipes import override
from env.errors import UserError
from env.types import Task
from evaluation.catalog import make_suite
from evaluation.cells import Cell
from evaluation.config import SuiteConfig, VariantConfig
from evaluation.environments import MethodSpec
from evaluation.suite import Suite
from evaluation.tables import unavailable

CHANGEABLE = ("env.", "rollout.sampling.")


@dataclass(frozen=True)
class Plan:
    """All cells, ordered by model (engines load one at a time), and the suites with their tasks by label."""

    cells: list[Cell]
    suites: dict[str, Suite]
    tasks: dict[str, Sequence[Task]]


def plan(run: RunConfig) -> Plan:
    """Check and resolve everything before anything starts. Raises UserError."""
    config = run.evaluation
    suites = {item.label: make_suite(item.suite, item.options) for item in config.suites}
    variants = [(variant, unavailable(variant)) for variant in config.variants]
    cells = [_cell(run, suite, variant, why) for suite in config.suites for variant, why in variants]
    models = list(dict.fromkeys(cell.model for cell in cells))
    for model in models:
        check_model(model, run)
    wanted = {suite.label: config.tasks_of(suite) for suite in config.suites}
    tasks = {label: suite.tasks(wanted[label], config.seed) for label, suite in suites.items()}
    for label, of_suite in tasks.items():
        if not of_suite:
            raise UserError(f"suite {label!r} has no task")
    return Plan(sorted(cells, key=lambda cell: models.index(cell.model)), suites, tasks)


def check_model(model: str, run: RunConfig) -> None:
    """Raises UserError for a folder without a model, and for a window that the model does not have."""
    from transformers import AutoConfig

    if not (Path(model) / "config.json").is_file() and (Path(model).is_absolute() or Path(model).exists()):
        raise UserError(f"model {model!r} is no Hugging Face folder: it has no config.json")
    try:
        window = AutoConfig.from_pretrained(model).max_position_embeddings
    except (OSError, ValueError) as error:
        raise UserError(f"model {model!r} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    if run.rollout.engine.max_model_len > window:
        raise UserError(
            f"rollout.engine.max_model_len is {run.rollout.engine.max_model_len}, but model {model!r} has a window of "
            f"{window} tokens: lower it, and env.chunk_tokens ({run.env.chunk_tokens}) with it"
        )


def _cell(run: RunConfig, suite: SuiteConfig, variant: VariantConfig, why: str | None) -> Cell:
    """The configuration under the suite's overrides, then the variant's."""
    for change in [*suite.set, *variant.set]:
        if not change.startswith(CHANGEABLE):
            raise UserError(
                f"evaluation, {suite.label}/{variant.label}: set {change!r} changes more than a variant may "
                f"({', '.join(CHANGEABLE)}...); engines are shared by all"
            )
    sampling = [f"rollout.sampling.temperature={run.evaluation.temperature}", "rollout.sampling.top_p=1.0"]
    resolved = override(run, [*sampling, *suite.set, *variant.set])
    spec = MethodSpec(variant.method, variant.options, resolved.env)
    return Cell(suite.label, variant.label, spec, resolved.rollout.sampling, variant.model or run.model, why)
