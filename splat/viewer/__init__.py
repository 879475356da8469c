"""The interactive viewer: clouds on a web page, drawn by the browser or by our rasterizer (extra `viewer`)."""

from splat.viewer.filters import Edits
from splat.viewer.initial_view import FirstView, first_view
from splat.viewer.page import Entry, Page, open_page
from splat.viewer.render_modes import Look, picture

__all__ = ["Edits", "Entry", "FirstView", "Look", "Page", "first_view", "open_page", "picture"]
