"""``splat eval-mesh --benchmark``: the protocols of DTU and of Tanks and Temples."""

from typing import TYPE_CHECKING

from splat.cli.checks import require
from splat.cli.console import heading, say
from splat.cli.eval_mesh_options import EvalMesh, numbers, similarity_as_dict, transform_of
from splat.cli.results import present
from splat.errors import InputError

if TYPE_CHECKING:
    from splat.surface.mesh.mesh import Mesh


def run_benchmark(options: EvalMesh) -> None:
    """Evaluate by the protocol that ``options.benchmark`` names, and print or write the scores."""
    from splat.scene.readers.sparse_ply import read_ply_points
    from splat.surface.mesh import mesh_io

    foreign = {"dtu": ("crop", "thresholds"), "tnt": ("observed", "ground", "scene")}[options.benchmark]
    for name in (*foreign, "box", "save"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} is not part of --benchmark {options.benchmark}; leave it out")
    if options.align != "none":
        raise InputError("a benchmark says itself how meshes are aligned; leave --align out, or give --transform")
    mesh = mesh_io.read(require(options.mesh, "mesh"))
    scan, _, _ = read_ply_points(require(options.reference, "points of the scan"))
    evaluate = _dtu if options.benchmark == "dtu" else _tanks_and_temples
    scores, sentences = evaluate(options, mesh, scan)
    paths = {"mesh": str(options.mesh), "reference": str(options.reference)}
    present({**paths, "benchmark": options.benchmark, **scores}, options.json, lambda: _show(options, sentences))


def _show(options: EvalMesh, sentences: list[str]) -> None:
    heading(f"{options.mesh} against {options.reference}")
    for sentence in sentences:
        say(sentence)


def _dtu(options: EvalMesh, mesh: "Mesh", scan) -> tuple[dict, list[str]]:
    from splat.surface.evaluation import benchmark_files, benchmarks
    from splat.surface.mesh.mesh import Mesh

    observable = plane = None
    if options.observed is not None:
        observable = benchmark_files.read_observability(require(options.observed, "file"))
    if options.ground is not None:
        plane = benchmark_files.read_ground_plane(require(options.ground, "file"))
    if options.scene is not None:
        mesh = _cut_by_masks(options, mesh)
    mesh = Mesh(transform_of(options).apply(mesh.vertices), mesh.faces, mesh.colours)
    accuracy, completeness, chamfer = benchmarks.dtu(mesh, scan, observable, plane)
    scores = {"accuracy": accuracy, "completeness": completeness, "chamfer": chamfer}
    return scores, [f"accuracy {accuracy:.3f} mm, completeness {completeness:.3f} mm, chamfer {chamfer:.3f} mm"]


def _cut_by_masks(options: EvalMesh, mesh: "Mesh") -> "Mesh":
    """``mesh`` without the faces that the masks of the scene's photos do not show."""
    from splat.scene import load_scene
    from splat.surface.cameras import scene_cameras
    from splat.surface.evaluation import benchmarks

    cameras, masks = scene_cameras(load_scene(require(options.scene, "scene")), with_masks=True)
    known = [(camera, mask) for camera, mask in zip(cameras, masks, strict=True) if mask is not None]
    if not known:
        raise InputError(f"{options.scene} has no masks to cut the mesh by; leave --scene out, or add a folder masks/")
    mesh = benchmarks.cull_by_masks(mesh, *zip(*known, strict=True))
    if not len(mesh.faces):
        raise InputError(f"the masks of {options.scene} show nothing of the mesh; is it in the frame of that scene?")
    return mesh


def _tanks_and_temples(options: EvalMesh, mesh: "Mesh", scan) -> tuple[dict, list[str]]:
    from splat.surface.evaluation import benchmark_files, benchmarks, metrics

    crop = None if options.crop is None else benchmark_files.read_crop_volume(require(options.crop, "file"))
    threshold = _threshold(options)
    start = transform_of(options)
    points = metrics.sample(mesh, 0.5 * threshold / start.scale)
    score, alignment = benchmarks.tanks_and_temples(points, scan, threshold, start, crop)
    scores = {
        "threshold": threshold, "precision": score.precision, "recall": score.recall, "f1": score.f1,
        "aligned": similarity_as_dict(alignment),
    }  # fmt: skip
    sentence = f"F1 {score.f1:.4f} within {threshold:g}: precision {score.precision:.4f}, recall {score.recall:.4f}"
    return scores, [sentence]


def _threshold(options: EvalMesh) -> float:
    from splat.surface.evaluation.benchmarks import TNT_THRESHOLDS

    if options.thresholds is not None:
        values = numbers(options.thresholds)
        if len(values) > 1:
            raise InputError(f"Tanks and Temples has one threshold, and --thresholds is '{options.thresholds}'")
        return values[0]
    threshold = TNT_THRESHOLDS.get(options.reference.stem.lower())
    if threshold is None:
        raise InputError(
            f"{options.reference.name} is named after no scene of Tanks and Temples ({', '.join(TNT_THRESHOLDS)}); "
            "give its threshold with --thresholds"
        )
    return threshold
