"""Single operations of training, each with all its callers (C++, CUDA, PyTorch) in one file."""
