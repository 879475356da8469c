"""Priors for few photos and for in-the-wild photo collections (docs/sparse.md); `build.prepare` switches them on."""
