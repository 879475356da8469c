"""Where to look from: camera paths, views between photos, cameras around a cloud."""
