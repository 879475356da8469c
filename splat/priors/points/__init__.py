"""Priors that add or remove Gaussians: dense initialization, feed-forward points, unpooling, floater removal."""
