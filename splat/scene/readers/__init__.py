"""One file for each source of a scene: COLMAP, transforms.json, video, bare photos and others."""
