"""OpenUSD with Gaussians."""
