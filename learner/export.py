"""The policy as plain Hugging Face tensors: adapters merged, partitions gathered bucket by bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

BUCKET_BYTES = 1 << 30  # what ZeRO-3 gathers at once, and a safetensors file's size


def export_shapes(model: PreTrainedModel) -> list[tuple[str, tuple[int, ...]]]:
    """Name and full shape of every tensor that `export_buckets` yields, in its order."""
    return [(name, tuple(getattr(p, "ds_shape", p.shape))) for name, p, _ in _plain_parameters(model)]


def export_buckets(
    model: PreTrainedModel,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    bucket_bytes: int = BUCKET_BYTES,
) -> Iterator[dict[str, Tensor]]:
    """The model's tensors by Hugging Face name, on ``device``, in ``dtype``, in buckets of about ``bucket_bytes``.

    Tied tensors appear once. Collective under ZeRO-3: every rank must walk through all buckets.
    """
    bucket: list[tuple[str, nn.Parameter, Any]] = []
    size = 0
    for name, parameter, adapter in _plain_parameters(model):
        bucket.append((name, parameter, adapter))
        size += getattr(parameter, "ds_numel", parameter.numel()) * dtype.itemsize
        if size >= bucket_bytes:
            yield _gather(bucket, dtype, device)
            bucket, size = [], 0
    if bucket:
        yield _gather(bucket, dtype, device)


def _plain_parameters(model: PreTrainedModel) -> Iterator[tuple[str, nn.Parameter, Any]]:
    """Names as in the model without adapters, with the LoRA layer (or None) whose delta is to be added."""
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            continue
        path, _, leaf = name.rpartition(".")
        if path.endswith(".base_layer"):
            path = path.removesuffix(".base_layer")
            yield f"{path}.{leaf}", parameter, model.get_submodule(path) if leaf == "weight" else None
        else:
            yield name, parameter, None


def _gather(
    bucket: list[tuple[str, nn.Parameter, Any]], dtype: torch.dtype, device: torch.device | str
) -> dict[str, Tensor]:
    needed = [parameter for _, parameter, _ in bucket]
    for _, _, adapter in bucket:
        if adapter is not None:
            needed += [p for name, p in adapter.named_parameters() if "lora_" in name]
    with torch.no_grad(), _whole(needed):
        return {
            name: _merged(parameter, adapter).to(device, dtype, copy=True) for name, parameter, adapter in bucket
        }


def _merged(parameter: nn.Parameter, adapter: Any) -> Tensor:
    """W, or W + scaling * B A; computed beside the parameter, so that nothing has to be taken back."""
    if adapter is None:
        return parameter.detach()
    return parameter.detach() + adapter.get_delta_weight("default").to(parameter.dtype)


def _whole(parameters: list[nn.Parameter]) -> Any:
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters)
