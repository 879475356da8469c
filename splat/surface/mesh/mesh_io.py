"""Meshes in files: PLY, OBJ and GLB, through trimesh; with a texture, OBJ and GLB."""

import importlib.util
import re
from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.files import atomic_path, write_bytes
from splat.surface.mesh.mesh import Mesh
from splat.surface.mesh.texture import Textured

SUFFIXES = (".ply", ".obj", ".glb")
TEXTURED = (".obj", ".glb")
READABLE = (*SUFFIXES, ".stl", ".off", ".gltf")


def check_suffix(path: Path, textured: bool = False) -> Path:
    """``path``. Raises InputError unless a mesh, or one with a texture, can be written under that name."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} does not say which mesh format is meant; let it end in {', '.join(SUFFIXES)}")
    if textured and path.suffix.lower() not in TEXTURED:
        raise InputError(f"{path} cannot hold a texture; let its name end in {' or '.join(TEXTURED)}")
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


def write_textured(path: Path, textured: Textured) -> None:
    """Write a mesh with its texture: one .glb, or .obj with .mtl and .jpg of the same name. Raises InputError."""
    check_suffix(path, textured=True)
    trimesh = _trimesh()
    from PIL import Image

    image = Image.fromarray(textured.image)
    image.format = "JPEG"  # trimesh stores pictures in the format they came in
    upwards = np.stack([textured.uv[:, 0], 1 - textured.uv[:, 1]], 1)
    glb = path.suffix.lower() == ".glb"
    # The light is in the picture already: no metal, no gloss.
    material = (
        trimesh.visual.material.PBRMaterial(baseColorTexture=image, metallicFactor=0.0, roughnessFactor=1.0)
        if glb
        else trimesh.visual.material.SimpleMaterial(image=image, diffuse=[255, 255, 255, 255])
    )
    visual = trimesh.visual.TextureVisuals(uv=upwards, material=material)
    solid = trimesh.Trimesh(
        textured.mesh.vertices, textured.mesh.faces, vertex_normals=textured.mesh.normals, visual=visual, process=False
    )
    if glb:
        with atomic_path(path) as temporary:
            solid.export(str(temporary), file_type="glb")
        return
    material.name = re.sub(r"[^\w.-]", "_", path.stem)
    text, beside = trimesh.exchange.obj.export_obj(
        solid, return_texture=True, mtl_name=f"{material.name}.mtl", header=None
    )
    for name, data in beside.items():
        # The picture is called after its format; .jpg is what everything opens.
        data = data.replace(b".jpeg", b".jpg") if name.endswith(".mtl") else data
        write_bytes(path.with_name(name.replace(".jpeg", ".jpg")), data)
    write_bytes(path, text.encode())


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


def require_library(simplified: bool = False, textured: bool = False) -> None:
    """Raise InputError, saying what to install, where meshes (simplified, with textures) cannot be made or written."""
    wanted = {"trimesh": "trimesh", "skimage": "scikit-image"}
    wanted |= {"fast_simplification": "fast-simplification"} if simplified else {}
    wanted |= {"xatlas": "xatlas"} if textured else {}
    for module, name in wanted.items():
        if importlib.util.find_spec(module) is None:
            raise InputError(
                f"meshes need {name}, which is not installed; install it with: pip install 'splat-toolkit[mesh]'"
            )
