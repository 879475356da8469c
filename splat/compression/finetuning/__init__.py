"""Training a cloud on photos while it is pruned or quantized."""
