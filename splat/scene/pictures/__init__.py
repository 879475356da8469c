"""Pictures of every usual kind as 8-bit sRGB: floating point, OpenEXR, raw files, colour profiles."""
