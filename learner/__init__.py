"""Policy updates: advantages, losses, batching, DeepSpeed workers, checkpoints. Knows no environment and no prompt."""
