"""What an engine is started with, and what a request asks of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from env.errors import UserError
from rollout.config import EngineConfig, RolloutConfig, SamplingConfig
from rollout.engine_args import engine_kwargs, environment, sampling_kwargs, stop_token_ids


def test_a_cpu_engine_has_one_process_whole_prefills_and_as_many_threads_as_cpus() -> None:
    config = EngineConfig(num_cpus=0.8, cpu_kv_cache_gib=0.5, max_model_len=4096)
    kwargs = engine_kwargs("model", config, seed=3)
    assert kwargs["distributed_executor_backend"].endswith("InCoreExecutor")
    assert kwargs["kv_cache_memory_bytes"] == 2**29
    assert kwargs["enable_chunked_prefill"] is False
    assert kwargs["max_num_batched_tokens"] == 4096
    assert kwargs["logprobs_mode"] == "processed_logprobs"
    assert environment(config)["OMP_NUM_THREADS"] == "1"
    assert environment(config.model_copy(update={"num_cpus": 3.0}))["OMP_NUM_THREADS"] == "3"


def test_a_gpu_engine_gets_its_share_of_memory_and_no_cpu_settings() -> None:
    config = EngineConfig(num_gpus=2, tensor_parallel=2, gpu_memory_utilization=0.6, weight_transfer="nccl")
    kwargs = engine_kwargs("model", config, seed=3)
    assert (kwargs["gpu_memory_utilization"], kwargs["tensor_parallel_size"]) == (0.6, 2)
    assert not kwargs.keys() & {"kv_cache_memory_bytes", "enable_chunked_prefill", "block_size"}
    assert "CUDA_VISIBLE_DEVICES" not in environment(config)


def test_sampling_is_limited_by_the_window_and_greedy_has_no_seed() -> None:
    sampling = SamplingConfig(temperature=0.7, top_p=0.9, max_new_tokens=100)
    kwargs = sampling_kwargs(sampling, room=30, seed=5, stop_ids=[1])
    assert (kwargs["temperature"], kwargs["top_p"], kwargs["max_tokens"], kwargs["seed"]) == (0.7, 0.9, 30, 5)
    greedy = sampling_kwargs(SamplingConfig(temperature=0), room=30, seed=5, stop_ids=[1])
    assert greedy["seed"] is None


def test_stop_ids_come_from_the_generation_config_then_the_config(tiny_model: Path, tmp_path: Path) -> None:
    assert stop_token_ids(str(tiny_model)) == [1]
    config = json.loads((tiny_model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": 4}))
    assert stop_token_ids(str(tmp_path)) == [4]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [4, 2]}))
    assert stop_token_ids(str(tmp_path)) == [4, 2]
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    with pytest.raises(UserError, match="no eos_token_id"):
        stop_token_ids(str(tmp_path))


def test_a_turn_that_fills_the_window_is_refused_in_the_config() -> None:
    with pytest.raises(ValueError, match="max_new_tokens 512 leaves no room for a prompt"):
        RolloutConfig(sampling=SamplingConfig(max_new_tokens=512), engine=EngineConfig(max_model_len=512))
