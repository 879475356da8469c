"""Niantic .spz."""
