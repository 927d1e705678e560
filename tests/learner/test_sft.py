"""SFT: reading turns, batches, and a real run from parquet to a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from env.errors import UserError
from learner.config import LearnerConfig, OptimizerConfig, SFTConfig
from learner.sft import batches, count_steps, read_turns, run_sft


def rows(count: int) -> list[dict[str, Any]]:
    """Prompts of a fixed word whose answer repeats the prompt's first word: learnable in a few steps."""
    return [
        {"prompt_ids": [6 + index % 5, 20, 21], "output_ids": [6 + index % 5, 1], "task_id": f"t{index}", "turn": 0}
        for index in range(count)
    ]


def write(path: Path, content: list[dict[str, Any]]) -> Path:
    parquet.write_table(pa.Table.from_pylist(content), path)
    return path


def test_longer_turns_are_dropped_and_counted(tmp_path: Path) -> None:
    content = rows(3) + [{"prompt_ids": [5] * 20, "output_ids": [1], "task_id": "long", "turn": 1}]
    turns, dropped = read_turns(write(tmp_path / "turns.parquet", content), max_tokens=16)
    assert (len(turns), dropped) == (3, 1)
    assert (turns[1].prompt_ids, turns[1].output_ids, turns[1].advantages) == ([7, 20, 21], [7, 1], [1.0, 1.0])


def test_unusable_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a readable parquet file"):
        read_turns(tmp_path / "missing.parquet", 100)
    (tmp_path / "text.parquet").write_text("prompt_ids,output_ids")
    with pytest.raises(UserError, match="is not a readable parquet file"):
        read_turns(tmp_path / "text.parquet", 100)
    with pytest.raises(UserError, match="has no column 'output_ids'"):
        read_turns(write(tmp_path / "a.parquet", [{"prompt_ids": [1]}]), 100)
    bad = rows(1) + [rows(1)[0] | {"output_ids": []}]
    with pytest.raises(UserError, match="row 1: prompt_ids and output_ids must not be empty"):
        read_turns(write(tmp_path / "b.parquet", bad), 100)
    with pytest.raises(UserError, match=r"no turn of at most 4 tokens \(2 turns in all\)"):
        read_turns(write(tmp_path / "c.parquet", rows(2)), 4)


def test_every_epoch_is_a_permutation_and_the_seed_decides() -> None:
    config = SFTConfig(epochs=2, batch_turns=4)
    found = list(batches(10, config, seed=3))
    assert [len(batch) for batch in found] == [4, 4, 2, 4, 4, 2]
    assert count_steps(10, config) == 6 and count_steps(10, SFTConfig(batch_turns=4, max_steps=5)) == 5
    first, second = np.concatenate(found[:3]), np.concatenate(found[3:])
    assert sorted(first) == sorted(second) == list(range(10)) and list(first) != list(second)
    assert all(np.array_equal(a, b) for a, b in zip(found, batches(10, config, seed=3), strict=True))


@pytest.mark.stack
def test_a_run_learns_and_leaves_a_model(model_path: Path, tmp_path: Path, local_ray: None) -> None:
    data = write(tmp_path / "turns.parquet", rows(64))
    config = SFTConfig(
        data=str(data), epochs=8, batch_turns=16, optimizer=OptimizerConfig(lr=3e-3, warmup_steps=2, schedule="linear")
    )
    learner = LearnerConfig(dtype="float32", micro_batch_tokens=64)
    steps: list[dict[str, float]] = []
    last = run_sft(str(model_path), tmp_path / "out", config, learner, seed=0, on_step=steps.append)
    assert [row["step"] for row in steps] == list(range(1, 33))
    assert steps[0]["loss"] > 3 and last["loss"] < 0.1
    assert steps[0]["lr"] == pytest.approx(1.5e-3) and steps[-1]["lr"] == pytest.approx(3e-3 / 30)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    prompt = AutoTokenizer.from_pretrained(tmp_path / "out")("w2 w14 w15", return_tensors="pt")
    assert model.generate(prompt["input_ids"], do_sample=False, max_new_tokens=4)[0, 3:].tolist() == [8, 1]
    with pytest.raises(UserError, match="exists already"):
        run_sft(str(model_path), tmp_path / "out", config, learner, seed=0)
