"""Depth maps to a surface: truncated signed distance and marching cubes."""
