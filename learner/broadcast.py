"""The sending side of vLLM's NCCL weight transfer, run inside the learner's workers. Needs GPUs.

Written against vLLM 0.32's ``TrainerWeightTransferEngine``; it has not run on the CPU machines that test this code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from learner.export import export_buckets, export_shapes


class PolicySource:
    """The policy as vLLM's sender iterates it: metadata first, then every tensor. Collective under ZeRO-3."""

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype, device: torch.device) -> None:
        self._model, self._dtype, self._device = model, dtype, device

    def metadata(self) -> list[Any]:
        """Name, dtype and shape of every tensor, in the order of iteration."""
        from vllm.distributed.weight_transfer.base import ParamMeta

        return [ParamMeta(name, self._dtype, shape) for name, shape in export_shapes(self._model)]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for bucket in export_buckets(self._model, self._dtype, self._device):
            yield from bucket.items()


def open_sender(rank: int, address: tuple[str, int], client: Any, source: PolicySource) -> Any:
    """Rank 0 meets the engines at ``address``; the other ranks only take part in gathering."""
    from vllm.distributed.weight_transfer.nccl_engine import (
        NCCLTrainerInitInfo,
        NCCLTrainerWeightTransferEngine,
    )

    info = NCCLTrainerInitInfo(
        rank=rank, master_address=address[0], master_port=address[1], world_size=client.world_size
    )
    return NCCLTrainerWeightTransferEngine.trainer_init(info, client=client, source=source)
