"""Priors that add training views: pseudo views, diffusion enhancement, co-regularization."""
