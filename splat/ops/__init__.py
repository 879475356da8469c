"""Single operations of training, each with its callers (C++, CUDA, PyTorch) in one file."""
