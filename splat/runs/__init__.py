"""A training run on disk: its folder, training, resuming and evaluation."""
