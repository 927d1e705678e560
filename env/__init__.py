"""The memory environment: operations, memory store, prompts, tasks and rewards. Knows no Ray, no vLLM, no model."""
