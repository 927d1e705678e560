"""The options of `atommem evaluate` as a configuration: a recipe, or a checkpoint with suites and methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.config import RunConfig
from cluster.recipes import load_recipe
from env.errors import UserError

WITH_DOCS = ("hotpotqa", "2wikimultihopqa", "musique", "ruler")


@dataclass(frozen=True)
class Asked:
    """What the command line says; None or empty: nothing."""

    checkpoint: Path | None
    recipe: Path | None
    suites: Sequence[str]
    docs: Sequence[int]
    methods: Sequence[str]
    data: str | None
    corpus: str | None
    tasks: int | None
    overrides: Sequence[str]


def resolve(asked: Asked) -> RunConfig:
    """The run to evaluate. Raises UserError, also for options that contradict each other."""
    recipe = asked.recipe or _recipe_of(asked.checkpoint)
    changes = [f"model={asked.checkpoint}"] if asked.checkpoint else []
    if asked.recipe is None:
        changes.append(f"name=eval-{_name(asked.checkpoint)}")
        changes.append("run_dir=null")
    if asked.suites:
        changes.append(f"evaluation.suites={_yaml(_suites(asked))}")
    elif asked.docs or asked.data:
        raise UserError("--docs and --data belong to a suite: give --suite as well")
    if asked.methods:
        changes.append(f"evaluation.variants={_yaml([{'method': method} for method in asked.methods])}")
    if asked.tasks:
        changes.append(f"evaluation.tasks={asked.tasks}")
    return load_recipe(recipe, [*changes, *asked.overrides])


def spread(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """`--docs 50 200` as `--docs 50 --docs 200`: the command line's library takes one value an option."""
    spreaded: list[str] = []
    option: str | None = None
    for argument in arguments:
        if argument.startswith("-"):
            option = argument if argument in options else None
            fresh = True
        elif option and not fresh:
            spreaded.append(option)
        elif option:
            fresh = False
        spreaded.append(argument)
    return spreaded


def _suites(asked: Asked) -> list[dict[str, Any]]:
    shared = {key: value for key, value in (("data", asked.data), ("corpus", asked.corpus)) if value}
    suites: list[dict[str, Any]] = []
    for suite in asked.suites:
        lengths = [{"docs": docs} for docs in asked.docs] if suite in WITH_DOCS else []
        suites += [{"suite": suite, "options": {**shared, **length}} for length in lengths or [{}]]
    return suites


def _recipe_of(checkpoint: Path | None) -> Path:
    """The configuration of the run that a checkpoint belongs to: RUN/checkpoints/step_000040 -> RUN/config.yaml."""
    if checkpoint is None:
        raise UserError("give a CHECKPOINT (a model's folder) or --recipe")
    for folder in (checkpoint, *checkpoint.resolve().parents[:2]):
        if (folder / "config.yaml").is_file():
            return folder / "config.yaml"
    raise UserError(
        f"checkpoint {checkpoint} lies in no run directory, so its prompt, chunk size and engine are unknown: "
        "name a recipe that has them, e.g. --recipe recipes/tiny.yaml"
    )


def _name(checkpoint: Path | None) -> str:
    assert checkpoint is not None
    parts = [part for part in checkpoint.parts[-3:] if part not in ("checkpoints", "/", ".", "..")]
    return "-".join(parts)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**9).strip()
