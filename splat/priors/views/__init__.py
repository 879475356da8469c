"""Priors that give the training more views: pseudo views, diffusion, a second model."""
