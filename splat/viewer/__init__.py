"""The interactive viewer: clouds on a web page, drawn by the browser or by our rasterizer (extra `viewer`)."""

from splat.viewer.drawing import Look, picture
from splat.viewer.edits import Edits
from splat.viewer.first_view import FirstView, first_view
from splat.viewer.page import Entry, Page, open_page

__all__ = ["Edits", "Entry", "FirstView", "Look", "Page", "first_view", "open_page", "picture"]
