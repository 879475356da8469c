"""The family of .ply files: 3DGS, compressed, and plain points."""
