"""Structure from motion: cameras and sparse points from bare photos."""
