"""In-the-wild photo collections: masks of transient occluders, and the appearance of single photos."""
