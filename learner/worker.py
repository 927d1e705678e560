"""One DeepSpeed rank as a Ray actor. The group (learner/group.py) calls the same method on every rank at once."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import ray
import safetensors.torch
import torch
from torch import Tensor

from learner.batching import MicroBatch
from learner.broadcast import PolicySource, open_sender
from learner.checkpoint import load_state, save_model, save_state
from learner.config import LearnerConfig, OptimizerConfig
from learner.deepspeed_engine import full_gradients, join_ranks, start_engine, start_reference
from learner.export import export_buckets
from learner.heap import release_heap
from learner.losses import PolicyTerms, Sums, imitation_loss, policy_loss
from learner.model import Policy

Loss = Literal["grpo", "sft"]


class LearnerWorker:
    """Holds one rank's part of the policy, the optimizer and, with a KL term, the frozen reference."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size

    def alive(self) -> bool:
        """Answers when the worker is there and idle."""
        return True

    def address(self) -> tuple[str, int]:
        """Where rank 0 lets the others meet: this node's address and a free port."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def setup(
        self,
        model_path: str,
        config: LearnerConfig,
        optimizer: OptimizerConfig,
        total_steps: int | None,
        seed: int,
        address: tuple[str, int],
    ) -> None:
        """Load the policy and start DeepSpeed. Collective. Raises UserError when the model does not load."""
        self.config = config
        join_ranks(config, self.rank, self.world_size, address)
        torch.manual_seed(seed + self.rank)
        self.engine = start_engine(model_path, config, optimizer, total_steps)
        self.reference = start_reference(model_path, config, optimizer, self.engine.device)

    @property
    def policy(self) -> Policy:
        """The module inside DeepSpeed's engine."""
        return self.engine.module

    def update(self, micro_batches: list[MicroBatch], loss: Loss, keep_gradients: bool = False) -> dict[str, float]:
        """Accumulate the gradient of all micro-batches, step once. Collective: as many micro-batches on every rank.

        Returns sums over this rank's tokens, and grad_norm, lr, skipped, memory_mb.
        """
        lr = self.engine.get_lr()[0]
        self.engine.train()
        sums: Sums = {}
        for index, micro_batch in enumerate(micro_batches):
            self.engine.set_gradient_accumulation_boundary(index == len(micro_batches) - 1)
            value, part = self._loss(micro_batch, loss)
            self.engine.backward(value * self.world_size)  # DeepSpeed averages over the ranks, the loss is a sum
            sums = {key: sums.get(key, torch.zeros(())) + number for key, number in part.items()}
        if keep_gradients:
            self._gradients = full_gradients(self.policy.model)
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        result = {key: float(value) for key, value in sums.items()}
        result["grad_norm"] = float(norm) if norm is not None else float("nan")
        result["skipped"] = float(not self.engine.was_step_applied())
        result |= {"lr": lr, "memory_mb": self._memory_mb()}
        if not self.config.num_gpus:
            release_heap()
        return result

    def score(self, micro_batches: list[MicroBatch]) -> list[np.ndarray]:
        """Log-probabilities of the policy as it is, float32 [N] per micro-batch. Collective."""
        self.engine.eval()
        with torch.no_grad():
            return [self._forward(self.engine, batch, False)[0].cpu().numpy() for batch in micro_batches]

    def gradients(self) -> dict[str, np.ndarray]:
        """Full gradients, before clipping, of the last update called with ``keep_gradients``; by HF name."""
        return self._gradients

    def _loss(self, batch: MicroBatch, loss: Loss) -> tuple[Tensor, Sums]:
        grpo = self.config.grpo
        logprobs, entropy = self._forward(self.engine, batch, loss == "grpo" and grpo.entropy_coefficient > 0)
        weights = self._tensor(batch.weights)
        if loss == "sft":
            return imitation_loss(logprobs, entropy, weights)
        old = self._tensor(batch.old_logprobs)
        reference = None
        if self.reference is not None:
            with torch.no_grad():
                reference, _ = self._forward(self.reference, batch, False)
        terms = PolicyTerms(
            logprobs=logprobs,
            entropy=entropy,
            weights=weights,
            advantages=self._tensor(batch.advantages),
            old_logprobs=torch.where(old.isnan(), logprobs.detach(), old),
            engine_logprobs=self._tensor(batch.engine_logprobs),
            reference_logprobs=reference,
        )
        return policy_loss(terms, grpo)

    def _forward(self, module: Any, batch: MicroBatch, entropy_gradient: bool) -> tuple[Tensor, Tensor]:
        ids, positions, targets = map(self._tensor, (batch.input_ids, batch.positions, batch.targets))
        return module(ids, positions, targets, batch.chunks, entropy_gradient, batch.layout)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.tensor(values, device=self.engine.device)  # a copy: arrays out of the object store are read-only

    def _memory_mb(self) -> float:
        """GPU: the most that was allocated so far; CPU: resident now; both in MiB."""
        if self.config.num_gpus:
            return torch.cuda.max_memory_allocated() / 2**20
        return psutil.Process().memory_info().rss / 2**20

    def weights(self, dtype: str) -> list[Any]:
        """Rank 0: ObjectRefs to the policy as safetensors bytes, a bucket each; nothing elsewhere. Collective.

        No rank holds more of the model than its own part and one bucket.
        """
        buckets = export_buckets(self.policy.model, getattr(torch, dtype))
        return [ray.put(safetensors.torch.save(bucket)) for bucket in buckets if self.rank == 0]

    def open_broadcast(self, address: tuple[str, int], client: Any, dtype: str) -> None:
        """Meet the engines for NCCL broadcasts (learner/broadcast.py). Collective; needs GPUs."""
        source = PolicySource(self.policy.model, getattr(torch, dtype), self.engine.device)
        self._client, self._sender = client, open_sender(self.rank, address, client, source)

    def broadcast(self, version: int) -> None:
        """Send the policy to the engines as ``version``. Collective."""
        self._client.next_version(version)
        self._sender.send_weights()

    def save(self, directory: Path, trainer_state: bool) -> None:
        """Write this rank's part of a checkpoint (learner/checkpoint.py). Collective."""
        dtype = getattr(torch, self.config.save_dtype or self.config.dtype)
        save_model(self.policy.model, self.rank, directory, dtype)
        if trainer_state:
            save_state(self.engine, self.rank, directory)

    def load(self, directory: Path, universal: Path | None) -> None:
        """Read this rank's part of a checkpoint. Collective. Raises UserError when it does not fit."""
        load_state(self.engine, self.rank, directory, universal)
