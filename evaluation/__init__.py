"""The same episodes without learning: held-out evaluation, statistics, reports."""
