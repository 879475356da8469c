"""glTF with Gaussians."""
