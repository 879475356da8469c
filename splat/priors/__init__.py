"""Priors for scenes of few photos and of photos by strangers (docs/sparse.md); `build.prepare` switches them on."""
