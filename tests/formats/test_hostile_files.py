"""Files made to mislead: each is refused in one sentence, quickly and in little memory, or read as what it is."""

import json
import os
import resource
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.clouds import cloud_of
from support.patience import bound

from splat import InputError, formats
from splat.cli import main
from splat.cloud_arrays import GaussianArrays
from splat.coding import deflate
from splat.coding.decimate import decimate
from splat.coding.limits import AMPLIFICATION, BELIEVED, check_claim, memory_bytes, padding
from splat.coding.neighbours import nearest


def equal_gaussians(count: int, degree: int = 0) -> GaussianArrays:
    """``count`` times the same Gaussian."""
    sh = np.full((count, (degree + 1) ** 2, 3), 0.25, np.float32)
    quats = np.tile(np.float32([1, 0, 0, 0]), (count, 1))
    ones = np.ones((count, 3), np.float32)
    return GaussianArrays(ones, -3 * ones, quats, np.ones(count, np.float32), sh)


def refused(path: Path, seconds: float = 10, megabytes: int = 100) -> str:
    """The message of a file that is refused in time and without taking memory."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(InputError) as caught:
        formats.read(path)
    assert time.monotonic() - start < bound(seconds)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < megabytes * 1000
    message = str(caught.value)
    assert str(path.name) in message and "\n" not in message
    return message


# ---- PLY ----


def ply_with(path: Path, *lines: str, rows: bytes = b"") -> Path:
    """A .ply of three Gaussians with further header lines before the first property, or before the end."""
    formats.write(cloud_of(3, 0), path, normals=False)
    head, body = path.read_bytes().split(b"end_header\n", 1)
    comments = [line for line in lines if line.startswith("comment")]
    others = [line for line in lines if not line.startswith("comment")]
    head = head.replace(b"element", "".join(f"{line}\n" for line in comments).encode() + b"element")
    width = len(body) // 3
    body = b"".join(body[i * width : (i + 1) * width] + rows for i in range(3))
    path.write_bytes(head + "".join(f"{line}\n" for line in others).encode() + b"end_header\n" + body)
    return path


def test_an_extra_without_columns_comes_back(tmp_path):
    table = GaussianArrays.of(cloud_of(3, 0)).replace(extras={"foo": np.zeros((3, 2, 0), np.float32)})
    formats.write_table(table, tmp_path / "a.ply")
    assert formats.read_table(tmp_path / "a.ply").extras["foo"].shape == (3, 2, 0)


@pytest.mark.parametrize("shape", ["1000000000", "99999999999999999999", "2," * 60, "1000000,1000000,1000000"])
def test_shapes_of_extras_are_held_against_the_columns(shape, tmp_path):
    path = ply_with(tmp_path / "a.ply", f"comment splat extra foo float32 [{shape}]")
    assert formats.read_table(path).extras == {}


def test_extras_do_not_grow_in_memory(tmp_path):
    """A column of bytes that a comment calls 64-bit numbers: our writer never does that."""
    path = ply_with(tmp_path / "a.ply", "comment splat extra v uint64 []", "property uchar v", rows=b"\7")
    assert formats.read_table(path).extras["v"].dtype == np.uint8


def test_time_is_linear_in_the_properties(tmp_path):
    names = "".join(f"property char p{i}\n" for i in range(50_000)).encode()
    comments = b"comment splat extra p [49999]\n" * 50
    head = b"ply\nformat binary_little_endian 1.0\n" + comments + b"element vertex 1\n"
    usual = "".join(
        f"property float {name}\n"
        for name in "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
    ).encode()
    path = tmp_path / "a.ply"
    path.write_bytes(head + usual + names + b"end_header\n" + bytes(14 * 4 + 50_000))
    start = time.monotonic()
    assert len(formats.read_table(path).extras) == 50_000
    assert time.monotonic() - start < bound(5)


def test_a_long_word_of_an_ascii_ply_takes_no_memory(tmp_path):
    names = "x y z a b c d e f g h i j k".split()
    head = "ply\nformat ascii 1.0\nelement vertex 60000\n" + "".join(f"property float {name}\n" for name in names)
    row = " ".join("1" * len(names)) + "\n"
    long = " ".join(["0" * 600 + "1"] + ["1"] * (len(names) - 1)) + "\n"
    path = tmp_path / "a.ply"
    path.write_text(head + "end_header\n" + long + row * 59_999)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = formats.read_table(path)
    assert len(table) == 60_000 and (table.means == 1).all()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 200_000


@pytest.mark.parametrize(
    "name, said", [("[/x]", "[/x]"), ("[bold", "[bold"), ("\x1b]0;A\x07\x1b[31m", "\\x1b]0;A\\x07\\x1b[31m")]
)
def test_names_in_files_have_no_power_over_the_terminal(name, said, tmp_path, capsys):
    path = ply_with(tmp_path / "a.ply", f"property float {name}", rows=bytes(4))
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr()
    assert said in out.out and "\x1b" not in out.out + out.err


def test_messages_and_file_names_have_no_power_over_the_terminal(tmp_path, capsys):
    path = tmp_path / "\x1b[31m[x].ply"
    path.write_bytes(b"ply\n\x1b[2J\nend_header\n")
    assert main(["info", str(path)]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err and "\\x1b[31m[x].ply" in err and "\\x1b[2J" in err and err.count("\n") == 1


# ---- other formats ----


def test_ksplat_whose_buckets_have_no_size(tmp_path):
    path = tmp_path / "a.ksplat"
    formats.write(cloud_of(300, 0), path, level=1)
    data = bytearray(path.read_bytes())
    data[4096 + 12 : 4096 + 16] = data[4096 + 32 : 4096 + 36] = struct.pack("<I", 0xFFFFFFF0)
    data[4096 + 20 : 4096 + 22] = bytes(2)
    path.write_bytes(data)
    assert "4,294,967,280 full" in refused(path)


def sog_of_one_colour(path: Path, side: int) -> Path:
    """A SOG of ``side`` squared Gaussians in pictures of one colour."""
    from PIL import Image

    formats.write(cloud_of(4, 0), path.with_name("small.sog"))
    with zipfile.ZipFile(path.with_name("small.sog")) as archive:
        meta = json.loads(archive.read("meta.json"))
        names = [name for name in archive.namelist() if name.endswith(".webp")]
    picture = path.with_name("one.webp")
    Image.new("RGBA", (side, side), (9, 9, 9, 255)).save(picture, lossless=True, exact=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps(meta | {"count": side * side}))
        for name in names:
            archive.writestr(name, picture.read_bytes())
    return path


def test_sog_pictures_of_one_colour_are_no_clouds(tmp_path):
    assert len(formats.read(sog_of_one_colour(tmp_path / "a.sog", 64))) == 64 * 64
    assert "1,000,000 Gaussians are claimed" in refused(sog_of_one_colour(tmp_path / "b.sog", 1000))


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_sog_packed_in_a_way_without_limit(packing, tmp_path):
    formats.write(cloud_of(40, 0), tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive, zipfile.ZipFile(tmp_path / "b.sog", "w", packing) as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    assert "packed in a way that no SOG is" in refused(tmp_path / "b.sog")


def test_a_bundle_with_a_million_members(tmp_path):
    path = tmp_path / "a.sog"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"{number}", b"")
    assert "a list of members of" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        {"count": 10**400},
        {"count": True},
        {"means": {"mins": [0, 0, 0], "maxs": [10**400, 0, 0], "files": ["means_l.webp", "means_u.webp"]}},
        {"quats": None},
        {"version": 1, "means": {"shape": "abc", "mins": [0] * 3, "maxs": [1] * 3, "files": ["l", "u"]}},
        {"version": [2]},
        {"scales": {"codebook": "x" * 256, "files": ["scales.webp"]}},
    ],
)
def test_sog_of_another_shape(change, tmp_path):
    formats.write(cloud_of(10, 0), tmp_path / "in" / "meta.json")
    path = tmp_path / "in" / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert "meta.json cannot be understood" in refused(path)


def test_a_missing_group_of_a_sog(tmp_path):
    formats.write(cloud_of(10, 0), tmp_path / "in" / "meta.json")
    path = tmp_path / "in" / "meta.json"
    meta = json.loads(path.read_text())
    del meta["quats"]
    path.write_text(json.dumps(meta))
    assert "'quats' is missing" in refused(path)


def test_json_with_more_entries_than_memory(tmp_path):
    path = tmp_path / "a.gltf"
    path.write_text('{"a": [' + "[]," * 3_000_000 + "[]]}")
    assert "too many entries" in refused(path)


def streamed(tmp_path: Path, names: list[str], leaves: list[tuple[int, int, int]]) -> Path:
    path = tmp_path / "lod-meta.json"
    tree = [{"lods": {"0": {"file": file, "offset": offset, "count": count}}} for file, offset, count in leaves]
    path.write_text(json.dumps({"version": 1, "lodLevels": 1, "filenames": names, "tree": {"children": tree}}))
    return path


def test_a_streamed_sog_that_names_a_file_twice(tmp_path):
    formats.write(cloud_of(10, 0), tmp_path / "a" / "meta.json")
    path = streamed(tmp_path, ["a/meta.json"] * 2000, [(number, 0, 10) for number in range(2000)])
    assert "twice or beyond" in refused(path)
    assert len(formats.read(streamed(tmp_path, ["a/meta.json"] * 2, [(0, 0, 4), (1, 4, 6)]))) == 10


def test_a_streamed_sog_of_many_believed_parts(tmp_path):
    small = BELIEVED // memory_bytes(1, 0) * 3 // 4
    side = int(small**0.5)
    for part in "abc":
        (tmp_path / part).mkdir()
        with zipfile.ZipFile(sog_of_one_colour(tmp_path / "one.sog", side)) as archive:
            archive.extractall(tmp_path / part)
    path = streamed(tmp_path, [f"{part}/meta.json" for part in "abc"], [(i, 0, side * side) for i in range(3)])
    assert f"{3 * side * side:,} Gaussians are claimed" in refused(path)


def gltf(tmp_path: Path, change) -> Path:
    path = tmp_path / "a.gltf"
    formats.write(cloud_of(2000, 3), path)
    asset = json.loads(path.read_text())
    change(asset)
    path.write_text(json.dumps(asset))
    return path


def test_gltf_nodes_with_two_parents(tmp_path):
    def dag(asset: dict) -> None:
        asset["nodes"] = [{"children": [i + 1, i + 1]} for i in range(40)] + [{}]
        asset["scenes"] = [{"nodes": [0]}]

    assert "two parents" in refused(gltf(tmp_path, dag))


def test_gltf_meshes_at_many_places(tmp_path):
    def many(count: int):
        def change(asset: dict) -> None:
            asset["nodes"] = [{"mesh": 0, "translation": [i, 0, 0]} for i in range(count)]
            asset["scenes"] = [{"nodes": list(range(count))}]

        return change

    assert len(formats.read(gltf(tmp_path, many(3)))) == 6000
    assert "Gaussians are claimed" in refused(gltf(tmp_path, many(500)), megabytes=200)


@pytest.mark.parametrize(
    "name, value",
    [("extensionsUsed", 5), ("nodes", 3), ("scenes", {}), ("accessors", "x"), ("meshes", [7]), ("scene", 10**30)],
)
def test_gltf_of_another_shape(name, value, tmp_path):
    assert "cannot be understood" in refused(gltf(tmp_path, lambda asset: asset.__setitem__(name, value)))


@pytest.mark.parametrize("value", [float("inf"), 10**400, "1", None])
def test_gltf_numbers_beyond_bounds(value, tmp_path):
    path = gltf(tmp_path, lambda asset: asset["nodes"][0].__setitem__("translation", [value, 0, 0]))
    assert "cannot be understood" in refused(path)


# ---- what is no file ----


def test_pipes_devices_and_folders_are_refused(tmp_path, capsys):
    os.mkfifo(tmp_path / "a.ply")
    for path, said in ((tmp_path / "a.ply", "is a pipe"), ("/dev/zero", "is a device"), ("/", "is the root")):
        start = time.monotonic()
        assert main(["info", str(path)]) == 2
        assert time.monotonic() - start < bound(5)
        assert said in capsys.readouterr().err
    (tmp_path / "sog").mkdir()
    os.mkfifo(tmp_path / "sog" / "meta.json")
    with pytest.raises(InputError):
        formats.read(tmp_path / "sog")
    with pytest.raises(InputError, match="the folder holds no meta.json"):
        formats.read(tmp_path)


# ---- equal Gaussians ----


@pytest.mark.parametrize(
    "file, options",
    [
        ("a.spz", {"version": 2}),
        ("a.spz", {"version": 3}),
        ("a.spz", {"version": 4}),
        ("a.sog", {}),
        ("b.splatz", {"layers": 3}),
        ("s/meta.json", {}),
    ],
)
def test_what_is_written_of_equal_gaussians_is_read(file, options, tmp_path):
    """Packed they shrink below what readers believe, so that writers must see to it."""
    table = equal_gaussians(2 * BELIEVED // memory_bytes(1, 0))
    path = tmp_path / file
    formats.write_table(table, path, **options)
    back = formats.read_table(path)
    assert len(back) == len(table)
    assert np.allclose(back.means, 1, atol=1e-2) and np.allclose(back.log_scales, -3, atol=0.3)
    # The reader would refuse it without: the smallest of these files is smaller than its due.
    if file == "a.spz":
        assert path.stat().st_size >= 2 * BELIEVED // AMPLIFICATION - 100


def test_claims_and_padding_agree(tmp_path):
    for count in (1000, 10**6, 10**7):
        for have in (0, 100, 10**5):
            lacks = padding(count, 2, have)
            check_claim(tmp_path, count, 2, 0, have + lacks)
            if lacks:
                with pytest.raises(InputError, match="is not believed"):
                    check_claim(tmp_path, count, 2, 0, have + lacks - 1)


def test_padded_gzip_inflates_to_the_same():
    import gzip

    data = deflate.gzip([bytes(5000)], 6)
    padded = deflate.with_padding(data, 1000)
    assert len(padded) >= len(data) + 1000 and gzip.decompress(padded) == bytes(5000)


def test_neighbours_against_all_pairs():
    """Distances to the nearest, with single, double and many equal points."""
    random = np.random.default_rng(0)
    points = random.integers(0, 4, (300, 3)).astype(np.float32)
    points = np.concatenate([points, np.tile(points[:1], (50, 1)), random.normal(size=(40, 3)).astype(np.float32)])
    every = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=2)
    np.fill_diagonal(every, np.inf)
    seen = np.zeros(len(points), int)
    for rows, distance, index in nearest(points, 5):
        seen[rows] += 1
        assert np.allclose(distance, np.sort(every[rows], 1)[:, :5], atol=1e-6)
        assert np.allclose(every[rows[:, None], index], distance, atol=1e-6)
        assert all(len(set(near)) == 5 for near in index.tolist())
    assert (seen == 1).all()
    assert [len(d[0]) for _, d, _ in nearest(points[:2], 5)] == [1]
    assert list(nearest(points[:1], 5)) == []


def test_many_equal_points_are_quick(tmp_path):
    path = tmp_path / "a.ply"
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 400000\n"
    path.write_bytes((head + "property float x\nproperty float y\nproperty float z\nend_header\n").encode())
    with open(path, "ab") as file:
        file.write(np.ones((400_000, 3), "<f4").tobytes())
    start = time.monotonic()
    assert len(formats.read_table(path)) == 400_000
    assert time.monotonic() - start < bound(10)


def test_equal_gaussians_are_decimated_in_time():
    start = time.monotonic()
    assert len(decimate(equal_gaussians(50_000), 12_500)) == 12_500
    assert time.monotonic() - start < bound(10)
