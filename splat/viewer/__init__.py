"""The interactive viewer: clouds on a web page, drawn by the browser or by our rasterizer (extra `viewer`)."""

from splat.viewer.filters import Edits
from splat.viewer.initial_view import FirstView, first_view
from splat.viewer.page import Page, SceneCloud
from splat.viewer.render_modes import Look, picture
from splat.viewer.serve import open_page

__all__ = ["Edits", "SceneCloud", "FirstView", "Look", "Page", "first_view", "open_page", "picture"]
