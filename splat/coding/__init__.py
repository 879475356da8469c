"""Coding of arrays: quantizers, k-means, Morton order, octree, rANS, deflate, WebP."""
