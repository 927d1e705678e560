"""The CPU backend of vLLM's weight-transfer API: safetensors in shared memory, read by the engine's worker.

Runs inside vLLM's worker process. An update is checked in full (`rollout.weight_check`) before the model is
touched, so that a bad one is refused and the old weights stay. Importing this module registers the backend
under the name ``shm``; on GPUs vLLM's own ``nccl`` takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload.layerwise import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from rollout.weight_check import check_weights, expected_tensors, read_tensors

BACKEND = "shm"


@dataclass
class ShmInitInfo(WeightTransferInitInfo):
    """Nothing to agree on beforehand."""


@dataclass
class ShmUpdateInfo(WeightTransferUpdateInfo):
    """Safetensors files that hold the whole model under its Hugging Face names."""

    paths: list[str]


class ShmWeightTransferEngine(WeightTransferEngine[ShmInitInfo, ShmUpdateInfo]):
    """Receives whole checkpoints from files on this node.

    ``intact`` is False from the moment the layers are opened until they are whole again.
    """

    init_info_cls = ShmInitInfo
    update_info_cls = ShmUpdateInfo
    supports_draft_weight_update = False
    intact = True

    def init_transfer_engine(self, init_info: ShmInitInfo) -> None:
        """Learn the names and shapes that every update must have."""
        self._expected = expected_tensors(self.model_config.hf_config)

    def start_weight_update(self) -> None:
        """Nothing yet: the layers are opened in `receive_weights`, after the check."""
        if not self.intact:
            raise RuntimeError("an earlier weight update failed half-way; this engine must be restarted")

    def receive_weights(self, update_info: ShmUpdateInfo) -> None:
        """Check the files, then load them. Raises ValueError, with nothing changed, when the check fails."""
        check_weights(update_info.paths, self._expected)
        self.intact = False
        initialize_layerwise_reload(self.model)
        model: Any = self.model
        model.load_weights(read_tensors(update_info.paths))

    def finish_weight_update(self) -> None:
        """Process the loaded layers and repack a tied output head."""
        finalize_layerwise_reload(self.model, self.model_config)
        repack_tied_head(self.model)
        self.intact = True

    def shutdown(self) -> None:
        """Holds no resources."""


def repack_tied_head(model: torch.nn.Module) -> None:
    """Pack the output matrix anew: on CPU it is packed when loaded, and a reload leaves a tied one old."""
    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            method: Any = module.quant_method
            method.process_weights_after_loading(module)


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, ShmWeightTransferEngine)
