"""Making clouds small: `compress()`, and the methods of papers on their own."""

from splat.compression.compressor import Callbacks, Compressed, MethodChoice, compress, compress_by_method
from splat.compression.finetuning.finetune import distill, finetune
from splat.compression.methods.prune import prune, prune_below
from splat.compression.methods.significance import blending_weights, significance
from splat.viewpoints.around_cloud import views_around

__all__ = [
    "Callbacks", "Compressed", "MethodChoice", "blending_weights", "compress", "compress_by_method", "distill",
    "finetune", "prune", "prune_below", "significance", "views_around",
]  # fmt: skip
