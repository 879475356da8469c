"""Training: photographs to Gaussians, one step at a time. `splat.runs.train` makes whole runs of it."""
