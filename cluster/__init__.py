"""Configuration, command line and the training loop (an RLlib Algorithm)."""
