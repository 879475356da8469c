"""Parameters of single photos: exposure, bilateral grid, pose."""
