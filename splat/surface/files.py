"""Meshes in files: PLY, OBJ and GLB, through trimesh."""

from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.files import atomic_path
from splat.surface.mesh import Mesh

SUFFIXES = (".ply", ".obj", ".glb")
READABLE = (*SUFFIXES, ".stl", ".off", ".gltf")


def check_suffix(path: Path) -> Path:
    """``path``. Raises InputError unless a mesh can be written under that name."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} does not say which mesh format is meant; let it end in {', '.join(SUFFIXES)}")
    return path


def _trimesh():
    try:
        import trimesh
    except ImportError as error:
        raise InputError(
            "mesh files need trimesh, which is not installed; install it with: pip install 'splat-toolkit[mesh]'"
        ) from error
    return trimesh


def write(path: Path, mesh: Mesh) -> None:
    """Write ``mesh`` with its vertex colours; the ending names the format. Raises InputError."""
    check_suffix(path)
    solid = _trimesh().Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.colours, process=False)
    with atomic_path(path) as temporary:
        solid.export(str(temporary), file_type=path.suffix[1:].lower())


def read(path: Path) -> Mesh:
    """The mesh in ``path``, all its parts joined. Raises InputError when it is missing, broken, or holds no faces."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the file of a mesh ({', '.join(READABLE)})")
    try:
        loaded = _trimesh().load(str(path), process=False, force="mesh")
        vertices, faces = np.asarray(loaded.vertices, np.float64), np.asarray(loaded.faces, np.int64)
    except InputError:
        raise
    except Exception as error:  # trimesh raises many kinds for broken files
        raise InputError(f"{path} cannot be read as a mesh ({error}); expected {', '.join(READABLE)}") from error
    if not len(faces) or not np.isfinite(vertices).all():
        what = "no faces" if not len(faces) else "coordinates that are not finite"
        raise InputError(f"{path} holds {what}, expected a triangle mesh; check how it was made")
    colours = None
    if loaded.visual.kind == "vertex":
        colours = np.asarray(loaded.visual.vertex_colors)[:, :3].astype(np.uint8)
    return Mesh(vertices, faces, colours)


def require_library() -> None:
    """Raise InputError, saying what to install, where meshes cannot be made or written."""
    _trimesh()
    try:
        import skimage  # noqa: F401
    except ImportError as error:
        raise InputError(
            "meshes need scikit-image, which is not installed; install it with: pip install 'splat-toolkit[mesh]'"
        ) from error
