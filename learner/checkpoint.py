"""Checkpoints: a Hugging Face folder that vLLM loads as it is, with the trainer's state in ``trainer/``.

::

    step_000005/config.json, *.safetensors, tokenizer files, generation_config.json
    step_000005/trainer/state/...      DeepSpeed: optimizer partitions, schedule
    step_000005/trainer/rng_rank0.pt   random states, one file per rank
    step_000005/trainer/learner.json   updates so far, workers, ZeRO stage, size of every file

Everything is written beside its place and renamed when whole. On several nodes the directory must be shared.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from transformers import PreTrainedModel

from env.errors import UserError
from learner.export import export_buckets
from learner.universal import TAG as UNIVERSAL_TAG

TRAINER = "trainer"
MANIFEST = "learner.json"
STATE = "state"


@contextmanager
def written_beside(directory: Path) -> Iterator[Path]:
    """A fresh directory next to ``directory`` that takes its name when the block ends well, else is removed.

    Raises UserError when ``directory`` exists: a checkpoint is never overwritten.
    """
    if directory.exists():
        raise UserError(f"checkpoint '{directory}' exists already")
    beside = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    beside.mkdir(parents=True)
    try:
        yield beside
        os.rename(beside, directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def save_model(model: PreTrainedModel, rank: int, directory: Path, dtype: torch.dtype) -> None:
    """Rank 0 writes the model in ``dtype``: safetensors, one file per bucket, with the index that transformers and vLLM
    read, and its configuration. Collective under ZeRO-3."""
    index: dict[str, str] = {}
    size = 0
    for number, bucket in enumerate(export_buckets(model, dtype), start=1):
        if rank == 0:
            name = f"model-{number:05d}.safetensors"
            safetensors.torch.save_file(bucket, directory / name, metadata={"format": "pt"})
            index |= dict.fromkeys(bucket, name)
            size += sum(tensor.nbytes for tensor in bucket.values())
    if rank != 0:
        return
    if len(set(index.values())) == 1:
        (directory / "model-00001.safetensors").rename(directory / "model.safetensors")
    else:
        content = {"metadata": {"total_size": size}, "weight_map": index}
        (directory / "model.safetensors.index.json").write_text(json.dumps(content, indent=1))
    config = copy.deepcopy(model.config)
    config.dtype = dtype
    config.save_pretrained(directory)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(directory)


def save_state(engine: Any, rank: int, directory: Path) -> None:
    """One rank's part of the trainer's state: DeepSpeed's and the random states. Collective."""
    trainer = directory / TRAINER
    trainer.mkdir(exist_ok=True)
    engine.save_checkpoint(str(trainer), tag=STATE, save_latest=False, exclude_frozen_parameters=True)
    torch.save(_random_states(), trainer / f"rng_rank{rank}.pt")


def load_state(engine: Any, rank: int, directory: Path, universal: Path | None = None) -> None:
    """Restore weights, optimizer, schedule and random states of one rank. Collective.

    ``universal`` is the checkpoint's copy for another number of workers (learner/universal.py). A rank that the
    checkpoint does not know keeps its random states.
    """
    trainer = directory / TRAINER
    engine._config.load_universal_checkpoint = universal is not None
    place, tag = (trainer, STATE) if universal is None else (universal, UNIVERSAL_TAG)
    path, _ = engine.load_checkpoint(str(place), tag=tag, load_module_strict=False)
    if path is None:
        raise UserError(f"checkpoint '{directory}' has no trainer state that DeepSpeed can read")
    random_states = trainer / f"rng_rank{rank}.pt"
    if random_states.is_file():
        _restore_random_states(torch.load(random_states, weights_only=True))


def write_manifest(directory: Path, updates: int, workers: int, stage: int) -> None:
    """Note what the checkpoint is and the size of every file in it."""
    files = {str(path.relative_to(directory)): path.stat().st_size for path in directory.rglob("*") if path.is_file()}
    content = {"updates": updates, "workers": workers, "zero_stage": stage, "files": files}
    (directory / TRAINER / MANIFEST).write_text(json.dumps(content, indent=1))


def read_manifest(directory: Path, stage: int) -> dict[str, Any]:
    """The manifest, once every file is there in full. Raises UserError naming what is missing or does not fit.

    The number of workers may differ from the checkpoint's, the ZeRO stage may not.
    """
    path = directory / TRAINER / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        expected: dict[str, int] = manifest["files"]
        written_at = int(manifest["zero_stage"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{directory}' is not a whole checkpoint: {TRAINER}/{MANIFEST}: {error}") from error
    for name, size in expected.items():
        file = directory / name
        if not file.is_file():
            raise UserError(f"checkpoint '{directory}' is damaged: {name} is missing")
        if file.stat().st_size != size:
            raise UserError(
                f"checkpoint '{directory}' is damaged: {name} has {file.stat().st_size} bytes instead of {size}"
            )
    if written_at != stage:
        raise UserError(
            f"checkpoint '{directory}' was written at ZeRO stage {written_at}; this learner is at stage {stage}"
        )
    return manifest


def _random_states() -> dict[str, Any]:
    """Tensors and plain values only, so that they can be read without unpickling objects."""
    of_numpy: Any = np.random.get_state()
    name, keys, *rest = of_numpy
    numpy_state = (name, torch.from_numpy(keys.astype(np.int64)), *rest)
    states = {"torch": torch.get_rng_state(), "numpy": numpy_state, "python": random.getstate()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _restore_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(states["python"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
