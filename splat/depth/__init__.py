"""Depth from photos: plane sweep, stereo, completion, depth networks, and normals of depth."""
