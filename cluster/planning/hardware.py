"""GPUs that a plan can name: makers' figures, and the share of them that this kind of work reaches."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from env.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """One device. Rates are the maker's, for dense bfloat16 with float32 accumulation."""

    memory: float  # bytes
    flops: float  # per second
    bandwidth: float  # bytes per second to its own memory
    link: float  # bytes per second from the learner to an engine, on another node if need be


@dataclass(frozen=True)
class Efficiency:
    """The share of a device's peak that a phase reaches. Assumed, not measured here: docs/plan.md gives the sources."""

    train: float = 0.40
    prefill: float = 0.50
    decode: float = 0.60  # of the memory bandwidth
    link: float = 0.50
    step_overhead_s: float = 0.003  # of one decode step, beside what memory and arithmetic take


GB = 1e9
GPUS = {
    "h100-80gb": Gpu(80 * GB, 989e12, 3.35e12, 50e9),
    "h200-141gb": Gpu(141 * GB, 989e12, 4.8e12, 50e9),
    "a100-80gb": Gpu(80 * GB, 312e12, 2.039e12, 25e9),
    "a800-80gb": Gpu(80 * GB, 312e12, 2.039e12, 25e9),
    "a100-40gb": Gpu(40 * GB, 312e12, 1.555e12, 25e9),
    "l40s-48gb": Gpu(48 * GB, 362e12, 0.864e12, 12.5e9),
    "rtx4090-24gb": Gpu(24 * GB, 165e12, 1.008e12, 3e9),
    "a10g-24gb": Gpu(24 * GB, 70e12, 0.6e12, 3e9),
}


def gpu_named(name: str) -> Gpu:
    """A GPU by its name in the table. Raises UserError with the nearest names."""
    if name in GPUS:
        return GPUS[name]
    close = difflib.get_close_matches(name, GPUS, n=1, cutoff=0.3)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(f"--gpu {name}: {hint}known are {', '.join(GPUS)}, and cpu for this machine")
