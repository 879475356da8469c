"""Priors that add, move or remove Gaussians: dense points and floater removal."""
