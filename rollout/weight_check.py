"""Is a weight update whole? Checked against what the model's configuration says it must hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, PretrainedConfig


@dataclass(frozen=True)
class ExpectedTensors:
    """Shapes by Hugging Face name; ``tied`` names, and what each is tied to, may be left out of an update."""

    shapes: dict[str, tuple[int, ...]]
    tied: dict[str, str]


def expected_tensors(config: PretrainedConfig) -> ExpectedTensors:
    """What a checkpoint of this architecture holds; the model is built on the meta device, without memory."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return ExpectedTensors(shapes, dict(model.all_tied_weights_keys))


def check_weights(paths: Sequence[str], expected: ExpectedTensors) -> None:
    """Raise ValueError unless the files together hold every tensor, finite, in its shape, tied ones equal."""
    seen: dict[str, torch.Tensor] = {}
    try:
        for name, tensor in read_tensors(paths):
            _check_tensor(name, tensor, expected.shapes)
            seen[name] = tensor
    except (SafetensorError, OSError) as error:
        raise ValueError(f"unreadable safetensors: {error}") from error
    if missing := sorted(expected.shapes.keys() - expected.tied.keys() - seen.keys()):
        raise ValueError(f"{len(missing)} tensors are missing, the first is {missing[0]}")
    for name, source in expected.tied.items():
        if name in seen and not torch.equal(seen[name], seen[source]):
            raise ValueError(f"{name} differs from {source}, which it is tied to")


def _check_tensor(name: str, tensor: torch.Tensor, shapes: dict[str, tuple[int, ...]]) -> None:
    if name not in shapes:
        raise ValueError(f"{name} is no tensor of this model")
    if tuple(tensor.shape) != shapes[name]:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shapes[name]}")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} has dtype {tensor.dtype}, expected floating point")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} holds values that are not finite")


def read_tensors(paths: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and memory-mapped tensor, file by file."""
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                yield name, file.get_tensor(name)
