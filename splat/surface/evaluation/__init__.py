"""Scores of meshes against ground truth."""
