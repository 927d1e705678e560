"""`atommem sft`: supervised fine-tuning of a recipe's model on collected turns."""

from __future__ import annotations

from pathlib import Path

from cluster.config import RunConfig
from cluster.console import console
from cluster.session import ray_session
from learner.sft import run_sft

REPORT_EVERY = 10  # steps


def finetune(config: RunConfig, out: Path) -> Path:
    """Train on `sft.data` and write the model, with its trainer state, to the folder `out`.

    Raises UserError for unusable data or when `out` exists.
    """

    def report(row: dict[str, float]) -> None:
        step, steps = int(row["step"]), int(row["steps"])
        if step % REPORT_EVERY == 0 or step in (1, steps):
            console.print(
                f"[bold]{step:>5}/{steps}[/] loss [cyan]{row['loss']:.4f}[/] lr {row['lr']:.2e} "
                f"grad {row['grad_norm']:.2f} | {row['speed/train_tokens_per_s']:.0f} tok/s"
            )

    with ray_session(config.ray):
        last = run_sft(config.model, out, config.sft, config.learner, seed=config.seed, on_step=report)
    console.print(f"model: {out} (loss {last['loss']:.4f}, {int(last['turns/dropped'])} turns too long)")
    return out
