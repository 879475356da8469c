"""Depth maps of a cloud: from the rasterizer, or by stereo between renderings."""
