"""Files that other programs made: real ones from the shared folder, and variants of layouts built by hand."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from support.clouds import angles, cloud_of, same_bits

from splat import InputError, formats
from splat.cloud_arrays import GaussianArrays
from splat.formats.ply import compressed
from splat.formats.sog.meta import PICTURES, parse_meta
from splat.formats.spz import spz

FRUIT = "derived-fruit/fruit"
# A file, and the same decoded to .ply by splat-transform 3.7.0.
DECODED = [
    (FRUIT + ".compressed.ply", FRUIT + "_dec_compressed.ply"),
    (FRUIT + ".spz", FRUIT + "_dec_spz.ply"),
    (FRUIT + ".v3.spz", FRUIT + "_dec_spz.ply"),
    (FRUIT + ".sog", FRUIT + "_dec_sog.ply"),
    (FRUIT + ".L2.ksplat", FRUIT + "_dec_k2.ply"),
]
FRUIT_SOURCE = "playcanvas-supersplat-history/fruit_drops_minimal.ply"


@pytest.mark.parametrize("file, decoded", DECODED)
def test_decoding_equals_splat_transform(file, decoded, shared):
    ours, theirs = formats.read(shared / "splats" / file), formats.read(shared / "splats" / decoded)
    assert len(ours) == len(theirs) and ours.sh_degree == theirs.sh_degree
    for name in ("means", "log_scales", "opacities", "sh"):
        assert torch.allclose(getattr(ours, name), getattr(theirs, name), atol=2e-6, rtol=1e-5), name
    assert (angles(ours, theirs) < 0.01).all()


def test_other_peoples_glb_holds_the_same_shapes(shared):
    ours, source = formats.read(shared / "splats" / (FRUIT + ".glb")), formats.read(shared / "splats" / FRUIT_SOURCE)
    assert torch.allclose(ours.means, source.means) and torch.allclose(ours.sh, source.sh, atol=1e-6)
    assert torch.allclose(ours.covariances, source.covariances, atol=1e-7)
    assert torch.allclose(ours.opacities, source.opacities, atol=2e-6)


def test_one_model_in_every_format_is_one_cloud(shared):
    source = formats.read(shared / "splats" / FRUIT_SOURCE)
    for file, limit in ((".splat", 1e-6), (".L0.ksplat", 1e-6), (".L1.ksplat", 1e-4), (".spz", 3e-4), (".sog", 1e-3)):
        found = formats.read(shared / "splats" / (FRUIT + file))
        distance = torch.cdist(found.means[::10].double(), source.means.double()).amin(1)
        assert distance.max() < limit, file


def test_every_shared_file_reads_with_its_count(shared):
    folder = shared / "splats"
    lines = [line.split("\t") for line in (folder / "MANIFEST.tsv").read_text().splitlines()[1:]]
    seen = 0
    for path, _, count, *rest in lines:
        source = folder / path
        if path.endswith(".webp") or not source.exists():
            continue
        cloud = formats.read(source)
        assert cloud.finite().all(), path
        if count:
            thousand = count.endswith("K")
            wanted = float(count.rstrip("K")) * (1000 if thousand else 1)
            assert abs(len(cloud) - wanted) <= (0.006 * wanted if thousand else 0), path
        if rest and rest[0].isdigit():
            assert cloud.sh_degree == int(rest[0]), path
        seen += 1
    assert seen > 30


def test_sog_version_1(shared):
    cloud = formats.read(shared / "splats" / "playcanvas-engine" / "playcanvas-logo")
    assert len(cloud) == 307_128 and cloud.sh_degree == 0
    low, high = cloud.bounds()
    # Bounds from its meta.json, through sign·(e^|x| - 1).
    assert low.tolist() == pytest.approx([-1.53479, -2.78166, -0.57676], abs=1e-4)
    assert high.tolist() == pytest.approx([1.53479, 0.29567, 0.57676], abs=1e-4)
    assert cloud.log_scales.min() >= -15.4518 and cloud.log_scales.max() <= -0.9433
    assert 0.01 < cloud.opacities.min() and cloud.opacities.max() < 0.997


@pytest.mark.parametrize(("width", "bands"), [(9, 1), (24, 2), (45, 3), (25, None)])
def test_bands_of_sog_version_1_follow_from_the_width(width, bands):
    names = {group: [f"{name}.webp" for name in names] for group, names in PICTURES.items()}
    ends = {
        group: {"mins": [-1.0] * size, "maxs": [1.0] * size}
        for group, size in (("means", 3), ("scales", 3), ("sh0", 4))
    }
    ends["shN"] = {"mins": -2.0, "maxs": 2.0, "shape": [7, width]}
    meta = {group: {"files": files, "shape": [7, 3], **ends.get(group, {})} for group, files in names.items()}
    if bands is None:
        with pytest.raises(InputError, match="25 values a Gaussian, expected 9, 24 or 45"):
            parse_meta(meta, Path("x"))
    else:
        found = parse_meta(meta, Path("x"))
        assert (found.count, found.bands, found.rest.low, found.logit_range) == (7, bands, -2.0, (-1.0, 1.0))
    del meta["shN"]
    assert parse_meta(meta, Path("x")).bands == 0


# ---- PLY variants ----

PROPERTIES = [
    "x",
    "y",
    "z",
    "f_dc_0",
    "f_dc_1",
    "f_dc_2",
    "opacity",
    "scale_0",
    "scale_1",
    "scale_2",
    *(f"rot_{i}" for i in range(4)),
]


def ply_bytes(
    table: np.ndarray, encoding: str, kinds: dict[str, str] | None = None, before: str = "", data: bytes = b""
) -> bytes:
    """A PLY of ``table`` (N, 14), columns named by PROPERTIES, with types ``kinds`` (float32 if not named)."""
    kinds = kinds or {}
    names = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int"}
    order = ">" if encoding == "binary_big_endian" else "<"
    dtype = np.dtype([(name, order + kinds.get(name, "f4")) for name in PROPERTIES[: table.shape[1]]])
    rows = np.empty(len(table), dtype)
    for i, name in enumerate(dtype.names):
        rows[name] = table[:, i]
    header = f"ply\nformat {encoding} 1.0\n{before}element vertex {len(table)}\n"
    header += "".join(f"property {names[dtype[name].str[1:]]} {name}\n" for name in dtype.names) + "end_header\n"
    if encoding == "ascii":
        return header.encode() + data + "\n".join(" ".join(repr(float(v)) for v in row) for row in table).encode()
    return header.encode() + data + rows.tobytes()


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(37, 14)).astype(np.float32)


@pytest.mark.parametrize("encoding", ["ascii", "binary_big_endian", "binary_little_endian"])
def test_ply_in_every_encoding_without_normals(encoding, table, tmp_path):
    (tmp_path / "a.ply").write_bytes(ply_bytes(table, encoding))
    cloud = formats.read(tmp_path / "a.ply")
    assert np.array_equal(cloud.means.numpy(), table[:, :3])
    assert np.array_equal(cloud.sh[:, 0].numpy(), table[:, 3:6])
    assert np.array_equal(cloud.logit_opacities.numpy(), table[:, 6])
    assert np.array_equal(cloud.log_scales.numpy(), table[:, 7:10])
    assert np.array_equal(cloud.quats.numpy(), table[:, 10:14])
    assert not cloud.extras


def test_ply_with_doubles_and_elements_before(table, tmp_path):
    before = "comment made by hand\nelement camera 2\nproperty float fx\nproperty uchar id\n"
    data = ply_bytes(table, "binary_little_endian", {"x": "f8", "opacity": "f8"}, before, b"\0" * 10)
    (tmp_path / "a.ply").write_bytes(data)
    assert np.array_equal(formats.read(tmp_path / "a.ply").means.numpy(), table[:, :3])


def test_ply_of_flat_gaussians_gets_a_thin_axis(table, tmp_path):
    data = ply_bytes(table, "binary_little_endian").replace(b"property float scale_2\n", b"property float other_\n")
    (tmp_path / "a.ply").write_bytes(data)
    cloud = formats.read(tmp_path / "a.ply")
    assert (cloud.log_scales[:, 2] == -20).all()
    assert np.array_equal(cloud.extras["other_"].numpy(), table[:, 9])


def test_ply_extras_keep_name_shape_and_type(tmp_path):
    cloud = cloud_of(20, 1)
    extras = {
        "score": torch.rand(20),
        "labels": torch.arange(20, dtype=torch.int64),
        "weights": torch.rand(20, 2, 3, dtype=torch.float64),
        "mask": torch.rand(20) > 0.5,
        "half": torch.rand(20, 1).half(),
        "nx": torch.rand(20),
    }
    cloud = cloud.replace(extras=extras)
    formats.write(cloud, tmp_path / "a.ply")
    assert same_bits(formats.read(tmp_path / "a.ply"), cloud)
    empty = cloud.select(slice(0, 0))
    formats.write(empty, tmp_path / "b.ply")
    assert formats.read(tmp_path / "b.ply").extras["weights"].shape == (0, 2, 3)
    with pytest.raises(InputError, match="opacity"):
        formats.write(cloud.replace(extras={"opacity": torch.rand(20)}), tmp_path / "c.ply")


def test_compressed_ply_without_color_ranges(tmp_path):
    """The layout of 2023: colours as plain bytes."""
    cloud = cloud_of(300, 0)
    cloud = cloud.replace(sh=cloud.sh.clamp(-1.7, 1.7))
    path = tmp_path / "a.compressed.ply"
    formats.write(cloud, path, reorder=False)
    header, _, body = path.read_bytes().partition(b"end_header\n")
    ranges = np.frombuffer(body[: 2 * 72], "<f4").reshape(2, 18)
    words = np.frombuffer(body[2 * 72 :], "<u4").reshape(-1, 4).copy()
    rgb = (np.clip(cloud.sh[:, 0].numpy() * 0.28209479 + 0.5, 0, 1) * 255).round().astype(np.uint32)
    words[:, 3] = rgb[:, 0] << 24 | rgb[:, 1] << 16 | rgb[:, 2] << 8 | words[:, 3] & 255
    for name in compressed.COLORS:
        header = header.replace(f"property float {name}\n".encode(), b"")
    path.write_bytes(header + b"end_header\n" + ranges[:, :12].tobytes() + words.tobytes())
    assert torch.allclose(formats.read(path).sh, cloud.sh, atol=0.008)


def test_point_clouds_of_other_tools(tmp_path):
    path = tmp_path / "cloud.ply"
    path.write_text("ply\nformat ascii 1.0\nelement vertex 2\nproperty double x\nproperty double y\nproperty double z\n"
                    "property float red\nproperty float green\nproperty float blue\nelement face 0\n"
                    "property list uchar int vertex_indices\nend_header\n0 0 0 1 0 0.5\n3 4 0 0 1 0\n")  # fmt: skip
    cloud = formats.read(path)
    assert formats.recognise(path).name == "points"
    assert cloud.scales[:, 0].tolist() == pytest.approx([5.0, 5.0])
    assert (cloud.sh[:, 0] * 0.28209479 + 0.5).flatten().tolist() == pytest.approx([1, 0, 0.5, 0, 1, 0], abs=1e-6)


# ---- SPZ ----


def test_spz_version_1(tmp_path):
    """Half-float centres; worked by hand: one Gaussian of degree 1."""
    center = np.array([1.5, -2.25, 100.0], "<f2").tobytes()
    body = center + bytes([128, 255, 128, 0, 160, 0, 16, 127, 255, 0]) + bytes([128, 0, 255] * 3)
    head = struct.pack("<IIIBBBB", 0x5053474E, 1, 1, 1, 12, 1, 0)
    (tmp_path / "a.spz").write_bytes(gzip.compress(head + body))
    cloud = formats.read(tmp_path / "a.spz")
    assert cloud.means.tolist() == [[1.5, -2.25, 100.0]]
    assert cloud.opacities.tolist() == pytest.approx([128 / 255])
    assert cloud.sh[0, 0].tolist() == pytest.approx([0.5 / 0.15, (128 / 255 - 0.5) / 0.15, -0.5 / 0.15], abs=1e-6)
    assert cloud.log_scales.tolist() == [[0.0, -10.0, -9.0]]
    x, y, z = 127 / 127.5 - 1, 1.0, -1.0
    assert cloud.quats.tolist() == [pytest.approx([0.0, x, y, z])]
    assert cloud.sh[0, 1].tolist() == pytest.approx([0.0, -1.0, 127 / 128])


def test_spz_is_of_version_3_and_of_the_reference_steps_where_all_matter_alike(tmp_path):
    cloud = cloud_of(200, 2)
    cloud = cloud.replace(
        log_scales=torch.full_like(cloud.log_scales, -4), logit_opacities=torch.zeros_like(cloud.logit_opacities)
    )
    formats.write(cloud, tmp_path / "a.spz")
    assert struct.unpack_from("<II", gzip.decompress((tmp_path / "a.spz").read_bytes())) == (0x5053474E, 3)
    codes = (formats.read(tmp_path / "a.spz").sh * 128).round().int()
    for rows, step in ((slice(1, 4), 8), (slice(4, 9), 16)):
        assert np.gcd.reduce(codes[:, rows].flatten().numpy()) == step


def test_spz_names_its_frame(tmp_path):
    cloud = cloud_of(30, 1)
    data = spz.encode(GaussianArrays.of(cloud), tmp_path, version=4, antialiased=False, frame="RUB", reorder=False)
    record = struct.pack("<III", 0xADBE0003, 4, 4) + struct.pack("<II4s", 0xABCD0001, 4, b"skip")
    head = bytearray(data[:32])
    head[14] |= 2
    head[16:20] = struct.pack("<I", 32 + len(record))
    (tmp_path / "a.spz").write_bytes(bytes(head) + record + data[32:])
    assert torch.allclose(formats.read(tmp_path / "a.spz").means, cloud.means, atol=2e-4)


def test_spz_of_a_huge_scene_does_not_wrap(tmp_path):
    cloud = cloud_of(100, 0, size=3000.0)
    formats.write(cloud, tmp_path / "a.spz", reorder=False)
    assert (formats.read(tmp_path / "a.spz").means - cloud.means).abs().max() < 0.01
    with pytest.raises(InputError, match="SPZ holds at most"):
        formats.write(cloud.replace(means=cloud.means * 1e5), tmp_path / "b.spz")


def test_spz_of_a_tiny_scene_has_no_lattice(tmp_path):
    cloud = cloud_of(100, 0)
    cloud = cloud.replace(means=cloud.means * 1e-3, log_scales=cloud.log_scales - 5)
    formats.write(cloud, tmp_path / "a.spz", reorder=False)
    error = (formats.read(tmp_path / "a.spz").means - cloud.means).abs().max()
    assert error < 0.1 * cloud.scales.amax(1).median()


# ---- other people's readers, as far as they install from PyPI ----


def test_gsply_reads_ours(tmp_path):
    gsply = pytest.importorskip("gsply")
    cloud = cloud_of(200)
    for file, read, limit in (
        ("a.ply", gsply.plyread, 0),
        ("a.compressed.ply", gsply.plyread, 1e-4),
        ("a.spz", gsply.read_spz, 1e-5),
    ):
        formats.write(cloud, tmp_path / file)
        ours, theirs = formats.read(tmp_path / file), read(str(tmp_path / file))
        assert np.allclose(theirs.means, ours.means, atol=limit, rtol=0), file
        assert np.allclose(theirs.scales, ours.log_scales, atol=limit, rtol=0), file
        assert np.allclose(theirs.sh0, ours.sh[:, 0], atol=limit, rtol=0), file
        assert np.allclose(np.asarray(theirs.shN).reshape(200, 15, 3), ours.sh[:, 1:], atol=limit, rtol=0), file


def test_plyfile_reads_ours(tmp_path):
    plyfile = pytest.importorskip("plyfile")
    cloud = cloud_of(50, 2)
    formats.write(cloud, tmp_path / "a.ply")
    vertex = plyfile.PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    names = [prop.name for prop in vertex.properties]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:33] == [f"f_rest_{i}" for i in range(24)]
    assert names[33:] == ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert np.array_equal(vertex["f_rest_9"], cloud.sh[:, 2, 1].numpy())  # green of the second coefficient of 8
    assert np.array_equal(vertex["opacity"], cloud.logit_opacities.numpy())


def test_usd_core_sees_the_schema(tmp_path):
    usd = pytest.importorskip("pxr.Usd")
    cloud = cloud_of(20, 2)
    formats.write(cloud, tmp_path / "a.usda")
    stage = usd.Stage.Open(str(tmp_path / "a.usda"))
    prim = stage.GetPrimAtPath("/World/Gaussians")
    assert prim.GetTypeName() == "ParticleField3DGaussianSplat"
    assert prim.GetAttribute("radiance:sphericalHarmonicsDegree").Get() == 2
    assert len(prim.GetAttribute("radiance:sphericalHarmonicsCoefficients").Get()) == 20 * 9
    first = prim.GetAttribute("positions").Get()[0]
    x, y, z = cloud.means[0].tolist()
    assert tuple(first) == pytest.approx((x, -y, -z), rel=1e-5)
    assert prim.GetAttribute("scales").Get()[0][0] == pytest.approx(float(cloud.scales[0, 0]), rel=1e-5)
