"""Other people's programs read what we write, and we read what they write; the table says who agrees.

    python tools/check_formats.py --node ../format-clients --install

Clients: PlayCanvas splat-transform, Spark, @adobe/spz and the Khronos glTF validator (npm; installed into the folder
given by --node, never into this repository), gsply, usd-core and plyfile (PyPI). What is absent is skipped and said.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fuzz_formats import sample_cloud

from splat import formats
from splat.cloud import GaussianCloud
from splat.sh import C0

NPM = (
    "@playcanvas/splat-transform@3.7.0",
    "@sparkjsdev/spark@2.2.0",
    "@adobe/spz@0.2.3",
    "gltf-validator@2.0.0-dev.3.10",
)
SCRIPTS = Path(__file__).parent / "format_clients"
# What we write: (file, options). Rows keep their order in every client, so that they are compared one by one.
WRITTEN = [
    ("a.ply", {}), ("a.compressed.ply", {}), ("a.splat", {}), ("l0.ksplat", {"level": 0}), ("l1.ksplat", {"level": 1}),
    ("l2.ksplat", {"level": 2}), ("v2.spz", {"version": 2}), ("v3.spz", {"version": 3}), ("v4.spz", {"version": 4}),
    ("a.sog", {}), ("folder/meta.json", {}),
]  # fmt: skip
EXACT = 1e-4  # two decoders of the same bytes differ by float rounding only
# .splat does not say how its bytes become quaternions: the first viewer's (u - 128) / 128, or u / 255 · 2 - 1.
SPLAT = {"means": EXACT, "log_scales": EXACT, "opacities": EXACT, "dc": EXACT, "sh": EXACT, "rotation": 3.0}
# Spark stores what it read as SPZ version 2 again, whose quaternions are coarse near w = 0.
SPARK = {"means": 1e-4, "log_scales": 0.04, "opacities": 0.004, "dc": 0.03, "rotation": 13.0, "sh": 0.07}


@dataclass(frozen=True)
class Row:
    """One line of the table. ``good`` is None when the check was skipped."""

    client: str
    what: str
    good: bool | None
    detail: str


def differences(a: GaussianCloud, b: GaussianCloud) -> dict[str, float]:
    """Largest difference per attribute, rows in order; rotation in degrees, of the shape (not of the quaternion)."""
    degree = min(a.sh_degree, b.sh_degree)
    a, b = a.with_sh_degree(degree), b.with_sh_degree(degree)

    def largest(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x - y).abs().max()) if x.numel() else 0.0

    cosine = (torch.nn.functional.normalize(a.quats) * torch.nn.functional.normalize(b.quats)).sum(1).abs().clamp(max=1)
    return {
        "means": largest(a.means, b.means),
        "log_scales": largest(a.log_scales.clamp_min(-30), b.log_scales.clamp_min(-30)),
        "opacities": largest(a.opacities, b.opacities),
        "dc": largest(a.sh[:, 0], b.sh[:, 0]),
        "sh": largest(a.sh[:, 1:], b.sh[:, 1:]),
        "rotation": float(torch.rad2deg(2 * torch.arccos(cosine)).max()) if len(a) else 0.0,
    }


def compare(
    client: str, what: str, ours: GaussianCloud, theirs: GaussianCloud, limits: dict[str, float] | None = None
) -> Row:
    """The line that says whether two clouds agree within ``limits`` (float rounding if None)."""
    if len(ours) != len(theirs):
        return Row(client, what, False, f"{len(ours)} against {len(theirs)} Gaussians")
    found = differences(ours, theirs)
    # A quaternion known to 1e-7 gives its angle to 0.06 degrees: the arc cosine is steep at 1.
    limits = limits or {name: 0.1 if name == "rotation" else EXACT for name in found}
    worst = max(found, key=lambda name: found[name] / limits[name])
    return Row(client, what, found[worst] <= limits[worst], f"largest difference {found[worst]:.2g} ({worst})")


def guarded(client: str, what: str, check: Callable[[], Row]) -> Row:
    """The line of ``check``, or one that says how it failed."""
    try:
        return check()
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or error.stdout or "").splitlines() if "rror" in line] or [""]
        return Row(client, what, False, lines[-1].strip()[:90] or f"exit code {error.returncode}")
    except Exception as error:  # one failing client must not hide the others
        return Row(client, what, False, f"{type(error).__name__}: {str(error)[:90]}")


class Node:
    """The npm clients in a folder of the user's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.transform = folder / "node_modules/@playcanvas/splat-transform/bin/cli.mjs"
        for script in SCRIPTS.glob("*.mjs"):
            shutil.copy(script, folder)

    def run(self, *arguments: object) -> str:
        command = ["node", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, cwd=self.folder).stdout

    def convert(self, source: Path, target: Path, *options: str) -> None:
        """splat-transform from ``source`` to ``target``."""
        self.run(self.transform, "-q", "-w", "-g", "cpu", *options, source, target)

    def has(self, package: str) -> bool:
        return (self.folder / "node_modules" / package).is_dir()


def splat_transform(node: Node, folder: Path, cloud: GaussianCloud) -> Iterator[Row]:
    client = "splat-transform 3.7.0"

    def reads(path: Path) -> Row:
        out = path.with_name(path.name + ".decoded.ply")
        node.convert(path, out)
        limits = SPLAT if path.suffix == ".splat" else None
        return compare(client, f"reads {path.relative_to(folder)}", formats.read(path), formats.read(out), limits)

    def writes(name: str, *options: str) -> Row:
        target, back = folder / f"theirs-{name}", folder / f"theirs-{name}.decoded.ply"
        node.convert(folder / "a.ply", target, *options)
        if name.endswith(".glb"):  # it cannot read these itself; they hold floats
            ours, truth = formats.read(target), formats.read(folder / "a.ply")
            return _same_shapes(client, f"writes {name}", ours, truth)
        node.convert(target, back)
        limits = SPLAT if name.endswith(".splat") else None
        return compare(client, f"writes {name}", formats.read(target), formats.read(back), limits)

    for file, _ in WRITTEN:
        yield guarded(client, f"reads {file}", lambda path=folder / file: reads(path))
    jobs = [("b.compressed.ply",), ("b.splat",), ("b.spz", "--spz-version", "3"), ("c.spz", "--spz-version", "4")]
    for name, *options in [*jobs, ("b.sog",), ("b.glb",)]:
        yield guarded(client, f"writes {name}", lambda name=name, options=options: writes(name, *options))


def _same_shapes(client: str, what: str, a: GaussianCloud, b: GaussianCloud) -> Row:
    """As ``compare``, but by covariances: a half turn of a Gaussian about its own axis is no difference."""
    scale = b.covariances.abs().amax((1, 2), keepdim=True)
    found = float(((a.covariances - b.covariances) / scale).abs().max())
    row = compare(client, what, a, b.replace(quats=a.quats))
    return row if not row.good else Row(client, what, found < 1e-3, f"{row.detail}; shapes {found:.2g}")


def adobe(node: Node, folder: Path, cloud: GaussianCloud) -> Iterator[Row]:
    client = "@adobe/spz 0.2.3"

    def load(path: Path) -> GaussianCloud:
        data = path.read_bytes()
        n, degree = np.frombuffer(data, "<u4", 2)
        widths = [3, 3, 4, 1, 3, 3 * ((degree + 1) ** 2 - 1)]
        parts = np.split(np.frombuffer(data, "<f4", offset=8), np.cumsum([n * width for width in widths])[:-1])
        means, scales, quats, alpha, color, rest = (torch.from_numpy(part.copy()) for part in parts)
        sh = torch.cat([color.reshape(-1, 1, 3), rest.reshape(int(n), -1, 3)], 1)
        logits = alpha.clamp(-13.8155, 13.8155)
        return GaussianCloud(
            means.reshape(-1, 3), scales.reshape(-1, 3), quats.reshape(-1, 4)[:, [3, 0, 1, 2]], logits, sh
        )

    def reads(version: int) -> Row:
        path = folder / f"v{version}.spz"
        node.run("adobe.mjs", "read", path, path.with_suffix(".f32"))
        return compare(client, f"reads version {version}", formats.read(path), load(path.with_suffix(".f32")))

    def writes(version: int) -> Row:
        path, back = folder / f"adobe{version}.spz", folder / f"adobe{version}.f32"
        node.run("adobe.mjs", "write", folder / "v4.f32", path, version)
        node.run("adobe.mjs", "read", path, back)
        return compare(client, f"writes version {version}", formats.read(path), load(back))

    for version in (2, 3, 4):
        yield guarded(client, f"reads version {version}", lambda version=version: reads(version))
    for version in (2, 3, 4):
        yield guarded(client, f"writes version {version}", lambda version=version: writes(version))


def spark(node: Node, folder: Path, cloud: GaussianCloud) -> Iterator[Row]:
    client = "Spark 2.2.0"

    def reads(file: str) -> Row:
        target = folder / f"spark-{Path(file).name}.spz"
        node.run("spark.mjs", folder / file, target)
        theirs, ours = formats.read(target), formats.read(folder / file)
        ours = ours.replace(log_scales=ours.log_scales.clamp(-10, 5.9375))  # what SPZ can hold
        return compare(client, f"reads {file}", ours, theirs, SPARK)

    # Its headless decoder stops with an error at files of less than SH 3, other people's as well, and at SPZ version 4.
    for file in ("a.ply", "a.compressed.ply", "v2.spz", "v3.spz", "a.sog"):
        yield guarded(client, f"reads {file}", lambda file=file: reads(file))


def validator(node: Node, folder: Path, cloud: GaussianCloud) -> Iterator[Row]:
    client = "glTF validator"
    files = {"a.glb": {}, "a.gltf": {}, "spz.glb": {"spz": True}, "empty.glb": {}}
    for file, options in files.items():
        formats.write(cloud.select(slice(0, 0)) if file == "empty.glb" else cloud, folder / file, **options)
    for line in node.run("validator.mjs", *(folder / file for file in files)).splitlines():
        report = json.loads(line)
        # It knows neither the extension nor, therefore, the names of its attributes.
        unknown = [m for m in report["messages"] if m["code"] == "MESH_PRIMITIVE_INVALID_ATTRIBUTE"]
        unknown = [m for m in unknown if "KHR_gaussian_splatting:" in m["pointer"]]
        errors = report["numErrors"] - len(unknown)
        detail = f"{errors} errors, {report['numWarnings']} warnings; {len(unknown)} attribute names not known to it"
        yield Row(client, f"accepts {Path(report['input']).name}", errors + report["numWarnings"] == 0, detail)


def from_pypi(folder: Path, cloud: GaussianCloud) -> Iterator[Row]:
    """gsply, plyfile and usd-core."""
    try:
        import gsply
    except ImportError:
        yield Row("gsply", "everything", None, "not installed: pip install gsply")
    else:
        client = f"gsply {gsply.__version__}"
        for file, read in (("a.ply", gsply.plyread), ("a.compressed.ply", gsply.plyread), ("v3.spz", gsply.read_spz)):
            yield guarded(client, f"reads {file}", lambda file=file, read=read: _gsply(client, folder / file, read))
    try:
        from plyfile import PlyData
    except ImportError:
        yield Row("plyfile", "everything", None, "not installed: pip install plyfile")
    else:
        vertex = PlyData.read(str(folder / "a.ply"))["vertex"]
        means = torch.from_numpy(np.stack([vertex[axis] for axis in "xyz"], 1))
        yield Row("plyfile", "reads a.ply", torch.equal(means, cloud.means), "centres bit for bit")
    try:
        from pxr import Usd, UsdVol  # noqa: F401
    except ImportError:
        yield Row("usd-core", "everything", None, "not installed: pip install usd-core")
    else:
        for file in ("a.usdc", "a.usda", "a.usdz"):
            yield guarded("usd-core", f"reads {file}", lambda file=file: _usd(folder / file, cloud))


def _gsply(client: str, path: Path, read: Callable) -> Row:
    ours, data = formats.read(path), read(str(path))
    sh = np.concatenate([np.asarray(data.sh0)[:, None], np.asarray(data.shN).reshape(len(data.sh0), -1, 3)], 1)
    fields = (data.means, data.scales, data.quats, data.opacities.reshape(-1), sh)
    theirs = GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(field, np.float32)) for field in fields))
    theirs = theirs.replace(logit_opacities=theirs.logit_opacities.clamp(-13.8155, 13.8155))
    ours = ours.replace(logit_opacities=ours.logit_opacities.clamp(-13.8155, 13.8155))
    return compare(client, f"reads {path.name}", ours, theirs)


def _usd(path: Path, cloud: GaussianCloud) -> Row:
    from pxr import Usd

    formats.write(cloud, path)
    stage = Usd.Stage.Open(str(path))  # prims die with it
    prim = stage.GetPrimAtPath("/World/Gaussians")
    positions = torch.from_numpy(np.array(prim.GetAttribute("positions").Get()))
    colors = np.array(prim.GetAttribute("radiance:sphericalHarmonicsCoefficients").Get()).reshape(len(cloud), -1, 3)
    upright = cloud.means * torch.tensor([1.0, -1.0, -1.0])  # y up, z back
    good = prim.GetTypeName() == "ParticleField3DGaussianSplat" and torch.allclose(positions, upright, atol=1e-6)
    good = good and np.allclose(colors[:, 0] * C0, cloud.sh[:, 0].numpy() * C0, atol=1e-6)
    return Row("usd-core", f"reads {path.name}", bool(good), "schema, centres and colours")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cloud", nargs="?", type=Path, help="cloud to try; a random one of 2,000 Gaussians if not given"
    )
    parser.add_argument("--node", type=Path, help="folder with (or for) the npm clients")
    parser.add_argument("--install", action="store_true", help="install them there first")
    options = parser.parse_args()
    cloud = formats.read(options.cloud) if options.cloud else sample_cloud(2000)
    cloud = cloud.replace(extras={})
    if options.install:
        options.node.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--prefix", str(options.node), *NPM], check=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for file, values in WRITTEN:
            formats.write(cloud, folder / file, **values)
        rows += from_pypi(folder, cloud)
        if options.node is None or shutil.which("node") is None:
            rows.append(Row("npm clients", "everything", None, "no node, or no --node FOLDER"))
        else:
            node = Node(options.node.resolve())
            packages = {"@playcanvas/splat-transform": splat_transform, "@adobe/spz": adobe}
            packages |= {"@sparkjsdev/spark": spark, "gltf-validator": validator}
            for package, checks in packages.items():
                if node.has(package):
                    rows += checks(node, folder, cloud)
                else:
                    rows.append(Row(package, "everything", None, "not installed; use --install"))
    width = [
        max(len(text) for text in column) for column in zip(*((row.client, row.what) for row in rows), strict=True)
    ]
    for row in rows:
        mark = {True: "ok", False: "FAILS", None: "skipped"}[row.good]
        print(f"{row.client:{width[0]}}  {row.what:{width[1]}}  {mark:7}  {row.detail}")
    return 1 if any(row.good is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
