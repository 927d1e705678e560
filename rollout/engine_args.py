"""vLLM's arguments for one engine. Short start-up and exact log-probabilities come from here."""

from __future__ import annotations

from typing import Any

from env.errors import UserError
from rollout.config import EngineConfig, SamplingConfig

_IN_CORE = "rollout.executor.InCoreExecutor"


def environment(config: EngineConfig) -> dict[str, str]:
    """Environment variables of the engine's actor.

    On CPU an engine has as many threads as CPUs: OpenMP threads spinning on shared cores cost a factor of 10.
    """
    variables = {"VLLM_NO_USAGE_STATS": "1", "VLLM_PLUGINS": "", "VLLM_LOGGING_LEVEL": "ERROR"}
    if config.num_gpus == 0:
        variables |= {
            "OMP_NUM_THREADS": str(max(1, int(config.num_cpus))),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # engines and runners share whatever cores there are
            # vLLM keeps a matrix's kernels itself, by number of tokens. oneDNN's own cache of them on top spares no
            # time, takes 250 MB and leaves the heap in fragments: memory then grows without end.
            "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0",
            "CUDA_VISIBLE_DEVICES": "",
        }
    return variables


def engine_kwargs(model_path: str, config: EngineConfig, seed: int) -> dict[str, Any]:
    """Keyword arguments of `AsyncEngineArgs`.

    Ids go in and come out, so no tokenizer is loaded. `processed_logprobs` are at the sampling temperature.
    """
    kwargs: dict[str, Any] = {
        "model": model_path,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "enforce_eager": config.enforce_eager,
        "tensor_parallel_size": config.tensor_parallel,
        "seed": seed,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "logprobs_mode": "processed_logprobs",
        "worker_extension_cls": "rollout.worker_extension.WorkerExtension",
    }
    return kwargs | (_cpu_kwargs(config) if config.num_gpus == 0 else _gpu_kwargs(config))


def _cpu_kwargs(config: EngineConfig) -> dict[str, Any]:
    kwargs: dict[str, Any] = {
        # An explicit size skips the profiling run.
        "kv_cache_memory_bytes": int(config.cpu_kv_cache_gib * 2**30),
        # The default of 128 never finds a shared prefix shorter than that; 32 is the least the kernels take.
        "block_size": 32,
        # vLLM 0.32 on CPU dies when a request with a seed is prefilled in parts, so prompts go in whole.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(config.max_model_len, 2048),
    }
    if config.tensor_parallel == 1:
        # The worker lives in the engine core: one process, one import and 0.7 GB less than the default.
        kwargs["distributed_executor_backend"] = _IN_CORE
    return kwargs


def _gpu_kwargs(config: EngineConfig) -> dict[str, Any]:
    return {"gpu_memory_utilization": config.gpu_memory_utilization, "enable_sleep_mode": config.colocate}


def stop_token_ids(model_path: str) -> list[int]:
    """The end-of-sequence ids a model names in its generation config, else in its config.

    Raises UserError when it names none: generation would never end by itself.
    """
    from transformers import AutoConfig, GenerationConfig

    try:
        ids = GenerationConfig.from_pretrained(model_path).eos_token_id
    except OSError:
        ids = None
    if ids is None:
        ids = AutoConfig.from_pretrained(model_path).eos_token_id
    if ids is None:
        raise UserError(f"model '{model_path}': no eos_token_id in generation_config.json or config.json")
    return [ids] if isinstance(ids, int) else list(ids)


def sampling_kwargs(
    sampling: SamplingConfig, room: int, seed: int | None, stop_ids: list[int]
) -> dict[str, Any]:
    """Arguments of vLLM's `SamplingParams` for a request with ``room`` positions in the window left."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": min(sampling.max_new_tokens, room),
        "seed": seed if sampling.temperature > 0 else None,
        "logprobs": 0,  # the sampled token's only
        "detokenize": False,
        "stop_token_ids": stop_ids,
    }
