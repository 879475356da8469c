"""Surfaces: meshes from clouds, and how near they are to the truth (`splat mesh`, `splat eval-mesh`)."""
