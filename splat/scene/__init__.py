"""Scenes: photographs with their cameras and sparse points, from whatever the user has."""

from splat.scene.image_cache import ImageCache
from splat.scene.images import Photo
from splat.scene.load import load_scene
from splat.scene.scene import Points, Scene, View

__all__ = ["ImageCache", "Photo", "Points", "Scene", "View", "load_scene"]
