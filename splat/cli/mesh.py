"""``splat mesh``: the surface of a run or a cloud, as a triangle mesh."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from splat.cli.console import amount, console, counter, duration, parse, require, say, table
from splat.cli.inputs import on_device, open_cloud, open_scene
from splat.cli.results import present
from splat.errors import InputError

if TYPE_CHECKING:
    from splat.coordinates import Georeference

ORBIT = 60  # cameras around a cloud that has no scene
FACES, FACES_TEXTURED = 1_000_000, 50_000  # by default


@dataclass(frozen=True)
class MeshCommand:
    """Mesh a run or a cloud: depth maps rendered from its cameras, TSDF fusion, marching cubes.

    The suffix of OUT names the format: .ply, .obj or .glb. Train with --preset surface for the best meshes.
    """

    path: tyro.conf.Positional[Path]
    """Run folder, or cloud file, to mesh."""
    out: tyro.conf.Positional[Path]
    """File to write."""
    scene: Path | None = None
    """Scene whose cameras are used; by default that of the run, without one 60 cameras around the cloud."""
    method: Literal["auto", "stereo", "median", "expected", "plane"] = "auto"
    """Source of depth: stereo between rendered pairs (GS2Mesh, Wolf et al. 2024), or the rasterizer's median, expected
    or plane depth (PGSR, Chen et al. 2024). Auto takes median for runs trained with the preset `surface`, else
    stereo."""
    matcher: str = "sgbm"
    """Stereo matcher: sgbm, or module:function of your own (docs/mesh.md)."""
    pairs: int = 1
    """Stereo pairs per view, 1 to 4."""
    baseline: float = 0.07
    """Stereo baseline, as a fraction of the cameras' distance from what they look at."""
    resolution: int = 512
    """Voxels across the region that the cameras look at."""
    voxel: float | None = None
    """Voxel size there in world units, instead of --resolution."""
    truncation: float | None = None
    """Truncation distance of the TSDF, voxels: larger closes holes, smaller keeps thin structures; by default 4, with
    --masks object 4 to 20, by how well the depth maps agree."""
    box: str | None = None
    """Mesh only this box: x0,y0,z0,x1,y1,z1 in world units."""
    unbounded: Literal["auto", "yes", "no"] = "auto"
    """Contract space outside that region (Mip-NeRF 360, Barron et al. 2022); auto does so where much lies there."""
    masks: Literal["ignore", "object"] = "ignore"
    """What black means in the scene's masks: pixels to ignore, or background around the object (empty space)."""
    faces: int | None = None
    """Simplify to about this many faces, such as 200k; by default 1M, with --texture 50k; 0 keeps all."""
    texture: int | None = None
    """Unwrap the surface (UV atlas) and texture it from the photos: side of the texture in texels, such as 2048 (.glb,
    .obj)."""
    pieces: int | None = None
    """Keep at most this many connected components, largest first."""
    least_piece: float = 0.04
    """Drop connected components with less area than a square of this side, as a fraction of the region's width."""
    max_side: int = 800
    """Longer side of the rendered views, at most, pixels."""
    megabytes: int = 2048
    """Memory for the TSDF, MiB; voxels grow where it does not suffice."""
    report: Path | None = None
    """Write a web page (.html) with images of the mesh beside the photos."""
    json: Path | None = None
    """Write facts about the mesh as JSON to this file; - is standard output, without the table."""
    downscale: float | None = None
    """Divide the photos' width and height by this factor; by default as in the run."""
    backend: Literal["auto", "cpu", "cuda", "gsplat", "reference"] = "auto"
    """Rendering backend; auto is cuda where it works, else cpu."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat mesh``."""
    options = parse("mesh", MeshCommand, arguments)
    from splat.surface.mesh import mesh_io
    from splat.surface.pipeline import mesh_cloud

    check(options)
    source = open_cloud(require(options.path, "file or folder"))
    place = source.cloud.georeference
    settings = _settings(options, source)
    scene, cameras, masks = _cameras(options, source)
    drawing = source.render_options
    start = time.perf_counter()
    with counter("meshing") as progress:
        cloud, photo = on_device(source.cloud, options.backend), _photos(scene)
        result = mesh_cloud(cloud, cameras, settings, drawing, masks, _stages(progress), photo)
    seconds = time.perf_counter() - start
    if result.textured is None:
        mesh_io.write(options.out, result.mesh)
    else:
        mesh_io.write_textured(options.out, result.textured)
    facts = _facts(options, settings, result, seconds) | {"georeference": place.as_json()}
    if place.placed:
        facts["notes"].append(f"the vertices are relative to {place}, as meshes have float32 coordinates")
    if options.report is not None:
        from splat.report.mesh_page import write_mesh_page

        with counter("drawing pictures") as progress:
            write_mesh_page(options.report, result, scene, facts, progress)
    present(facts, options.json, lambda: _show(options, facts))


def check(options: MeshCommand) -> None:
    """Raise InputError, before anything slow, for what cannot be made or written."""
    from splat.surface.mesh import mesh_io

    mesh_io.check_suffix(options.out, textured=options.texture is not None)
    mesh_io.require_library(simplified=_faces(options) is not None, textured=options.texture is not None)
    if options.report is not None and options.report.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"the report {options.report} is a web page; let its name end in .html")


def _cameras(options: MeshCommand, source):
    """The scene (or None), its cameras (or some around the cloud), and its masks. Raises InputError."""
    from splat.surface.cameras import cameras_around, scene_cameras

    scene = masks = None
    if options.scene is not None or (source.config is not None and source.config.scene.path):
        scene = open_scene(source, options.scene, options.downscale, None)
        cameras, masks = scene_cameras(scene, with_masks=True)
    else:
        cameras = cameras_around(source.cloud, ORBIT, options.max_side)
        say(f"no scene was given, so {ORBIT} cameras around the cloud are used", "dim")
    if options.masks == "object" and (masks is None or all(mask is None for mask in masks)):
        raise InputError("--masks object needs a scene with masks (a folder masks/ beside its images); it has none")
    return scene, cameras, masks


def _settings(options: MeshCommand, source):
    """`MeshOptions` from the options of the command line."""
    from splat.depth import stereo_matcher
    from splat.surface.options import MeshOptions

    method = options.method
    if method == "auto":
        trained_for_it = source.config is not None and source.config.surface.flatten > 0
        method = "median" if trained_for_it else "stereo"
    return MeshOptions(
        method=method,
        matcher=stereo_matcher.load(options.matcher),
        pairs=options.pairs,
        baseline=options.baseline,
        resolution=options.resolution,
        voxel=options.voxel,
        truncation=options.truncation,
        unbounded={"auto": None, "yes": True, "no": False}[options.unbounded],
        box=None if options.box is None else box_about(source.cloud.georeference, box_of(options.box)),
        masks=options.masks,
        least_piece=options.least_piece,
        most_pieces=options.pieces,
        faces=_faces(options),
        texture=options.texture,
        max_side=options.max_side,
        megabytes=options.megabytes,
        backend=options.backend,
    )


def _faces(options: MeshCommand) -> int | None:
    if options.faces is None:
        return FACES if options.texture is None else FACES_TEXTURED
    return options.faces or None


def _photos(scene):
    """A function from the index of a camera of `scene_cameras` to its photo; None without a scene."""
    return None if scene is None else lambda index: scene.train_views[index].load().rgb.numpy()


def box_of(text: str) -> tuple[float, float, float, float, float, float]:
    """The corners in 'x0,y0,z0,x1,y1,z1'. Raises InputError."""
    try:
        numbers = tuple(float(part) for part in re.split(r"[,\s]+", text.strip()))
    except ValueError:
        numbers = ()
    if len(numbers) != 6 or not all(low < high for low, high in zip(numbers[:3], numbers[3:], strict=True)):
        raise InputError(f"--box is '{text}', expected x0,y0,z0,x1,y1,z1 with the lower corner first")
    return numbers


def box_about(place: "Georeference", box: tuple[float, ...]) -> tuple[float, ...]:
    """``box``, given in world coordinates, relative to the origin of ``place``."""
    return tuple(side - zero for side, zero in zip(box, 2 * place.origin, strict=True))


def _stages(progress):
    """A progress callback that shows each stage from its own beginning."""
    return lambda stage, done, total: progress(done, total)


def _facts(options: MeshCommand, settings, result, seconds: float) -> dict:
    mesh = result.mesh
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    return {
        "path": str(options.path),
        "out": str(options.out),
        "method": settings.method,
        "views": len(result.maps),
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "faces_found": result.faces_extracted,
        "texture": None if result.textured is None else list(result.textured.image.shape[1::-1]),
        "charts": None if result.textured is None else result.textured.charts,
        "pieces_dropped": result.dropped,
        "watertight": mesh.watertight,
        "voxel": result.space.voxel,
        "unbounded": result.space.radius is not None,
        "blocks": result.blocks,
        "bounds": [low.tolist(), high.tolist()],
        "area": float(mesh.areas.sum()),
        "bytes": options.out.stat().st_size,
        "seconds": round(seconds, 2),
        "stages": {name: round(value, 2) for name, value in result.seconds.items()},
        "notes": list(result.notes),
    }


def _extra_rows(facts: dict) -> list[tuple[str, str]]:
    rows = []
    if facts["faces_found"] > facts["faces"]:
        rows.append(("simplified", f"from {facts['faces_found']:,} faces (--faces 0 keeps all)"))
    if facts["texture"] is not None:
        rows.append(("texture", f"{facts['texture'][0]} × {facts['texture'][1]} texels in {facts['charts']:,} charts"))
    return rows


def _show(options: MeshCommand, facts: dict) -> None:
    for note in facts["notes"]:
        say(f"note: {note}", "dim")
    size = [high - low for low, high in zip(*facts["bounds"], strict=True)]
    rows = [
        ("surface", f"{facts['faces']:,} faces, {facts['vertices']:,} vertices, area {facts['area']:.4g}"),
        *_extra_rows(facts),
        ("size", " × ".join(f"{side:.3g}" for side in size) + " world units"),
        ("voxels", f"{facts['voxel']:.4g} wide" + (" in focus, growing outside" if facts["unbounded"] else "")),
        ("watertight", "yes" if facts["watertight"] else "no, open where no view observed it"),
        ("small pieces dropped", f"{facts['pieces_dropped']:,}"),
        ("depth", f"{facts['method']}, from {facts['views']} views"),
        (
            "time",
            duration(facts["seconds"]) + "  (" + ", ".join(f"{k} {v:.0f} s" for k, v in facts["stages"].items()) + ")",
        ),
    ]
    console.print(table(("mesh", ""), rows))
    say(f"{options.out}: {amount(facts['bytes'])}" + (f"; pictures in {options.report}" if options.report else ""))
