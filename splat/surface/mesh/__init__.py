"""Triangle meshes: files, colours, textures, drawing."""
