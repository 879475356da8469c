"""Priors for scenes of few photos and of photos by strangers (docs/sparse.md); `assemble.prepare` switches them on."""
