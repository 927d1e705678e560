"""Episodes in parallel: trajectory types, policy engines (vLLM) and the runners that host environments."""
