"""Points of surveys, written by the libraries of their formats, come back with their coordinates and colours."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from splat import InputError, formats
from splat.cli import main
from splat.coding.limits import BELIEVED
from splat.formats.survey import pcd, read_points
from splat.formats.survey.reader_process import epsg_of_wkt
from splat.formats.survey.sampling import Collector

COUNT = 500
UTM = np.array([412_345.25, 5_321_876.5, 431.75])


@pytest.fixture
def xyz() -> np.ndarray:
    return UTM + np.round(np.random.default_rng(1).uniform(-20, 20, (COUNT, 3)), 3)


@pytest.fixture
def rgb() -> np.ndarray:
    values = np.random.default_rng(2).integers(0, 256, (COUNT, 3)).astype(np.uint8)
    values[0] = 255
    return values


def las(path: Path, xyz: np.ndarray, rgb: np.ndarray | None = None, version: str = "1.2", **columns) -> Path:
    laspy = pytest.importorskip("laspy")
    pytest.importorskip("lazrs")
    kind = (3 if rgb is not None else 1) if version == "1.2" else (7 if rgb is not None else 6)
    header = laspy.LasHeader(version=version, point_format=kind)
    header.offsets, header.scales = np.floor(xyz.min(0)), np.full(3, 1e-3)
    header.vlrs.extend(columns.pop("vlrs", []))
    data = laspy.LasData(header)
    data.x, data.y, data.z = xyz.T
    if rgb is not None:
        data.red, data.green, data.blue = rgb.T
    for name, values in columns.items():
        data[name] = values
    data.write(path)
    return path


@pytest.mark.parametrize("suffix", ["las", "laz"])
@pytest.mark.parametrize("factor", [1, 257])
def test_las(suffix, factor, xyz, rgb, tmp_path):
    points = read_points(las(tmp_path / f"a.{suffix}", xyz, rgb.astype(np.uint16) * factor))
    assert np.abs(points.xyz - xyz).max() < 1e-6 and points.total == COUNT and points.epsg is None
    assert np.abs(points.rgb.astype(int) - rgb).max() <= 1


def test_intensity_becomes_grey(xyz, tmp_path):
    intensity = np.linspace(0, 1000, COUNT).astype(np.uint16)
    points = read_points(las(tmp_path / "a.las", xyz, intensity=intensity))
    assert np.abs(points.rgb[:, 0] - np.clip(intensity / np.quantile(intensity, 0.99), 0, 1) * 255).max() <= 1
    assert (points.rgb == points.rgb[:, :1]).all()


def test_the_coordinate_system_is_told(xyz, tmp_path):
    known = pytest.importorskip("laspy").vlrs.known
    keys = known.GeoKeyDirectoryVlr()
    entry = known.GeoKeyEntryStruct(id=3072, tiff_tag_location=0, count=1, value_offset=25832)
    keys.geo_keys_header.number_of_keys, keys.geo_keys = 1, [entry]
    assert read_points(las(tmp_path / "a.las", xyz, vlrs=[keys])).epsg == 25832
    wkt = known.WktCoordinateSystemVlr(
        'COMPD_CS["x",PROJCS["ETRS89 / UTM 33N",GEOGCS["ETRS89",AUTHORITY["EPSG","4258"]],UNIT["metre",1,'
        'AUTHORITY["EPSG","9001"]],AUTHORITY["EPSG","25833"]],VERT_CS["h",AUTHORITY["EPSG","5783"]]]'
    )
    points = read_points(las(tmp_path / "b.las", xyz, version="1.4", vlrs=[wkt]))
    assert points.epsg == 25833 and "EPSG:25833" in points.notes[0]
    assert epsg_of_wkt('PROJCRS["x",BASEGEOGCRS["y",ID["EPSG",4258]],ID["EPSG",2056]]') == 2056
    assert epsg_of_wkt('GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]]') == 4326
    assert epsg_of_wkt("LOCAL_CS[") is None and epsg_of_wkt('PROJCS["x"]') is None


def e57(path: Path, xyz: np.ndarray, rgb: np.ndarray | None, **pose) -> Path:
    pye57 = pytest.importorskip("pye57")
    file = pye57.E57(str(path), mode="w")
    data = {f"cartesian{axis}": np.ascontiguousarray(xyz[:, i]) for i, axis in enumerate("XYZ")}
    if rgb is not None:
        data |= {f"color{name}": np.ascontiguousarray(rgb[:, i]) for i, name in enumerate(("Red", "Green", "Blue"))}
    for _ in range(2):
        file.write_scan_raw(data, **pose)
    file.close()
    return path


def test_e57_scans_lie_where_their_poses_say(xyz, rgb, tmp_path):
    half = np.sqrt(0.5)  # a quarter turn about z
    path = e57(tmp_path / "a.e57", xyz - UTM, rgb, rotation=np.array([half, 0, 0, half]), translation=UTM)
    points = read_points(path)
    turned = (xyz - UTM) @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + UTM
    assert len(points) == 2 * COUNT and np.abs(points.xyz - np.concatenate([turned, turned])).max() < 1e-6
    assert np.array_equal(points.rgb[:COUNT], rgb)


# ---- PCD ----


def pcd_file(path: Path, xyz: np.ndarray, rgb: np.ndarray, kind: str, dense: bool = True) -> Path:
    packed = (rgb.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(1).astype(np.uint32)
    rows = np.empty(len(xyz), [("x", "<f8"), ("y", "<f8"), ("z", "<f8"), ("_", "<f4"), ("rgb", "<u4")])
    rows["x"], rows["y"], rows["z"], rows["_"], rows["rgb"] = *xyz.T, 0, packed
    lines = ["# .PCD v0.7 - Point Cloud Data file format", "VERSION 0.7", "FIELDS x y z _ rgb", "SIZE 8 8 8 4 4"]
    lines += ["TYPE F F F F U", "COUNT 1 1 1 1 1", f"WIDTH {len(xyz)}", "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0"]
    lines += [f"POINTS {len(xyz)}", f"DATA {kind}", ""]
    if kind == "ascii":
        body = "".join(f"{x!r} {y!r} {z!r} 0 {c}\n" for (x, y, z), c in zip(xyz.tolist(), packed, strict=True)).encode()
    elif kind == "binary":
        body = rows.tobytes()
    else:
        columns = b"".join(rows[name].tobytes() for name in rows.dtype.names)
        data = literals(columns)
        body = struct.pack("<II", len(data), len(columns)) + data
    path.write_bytes("\n".join(lines).encode() + body)
    return path


def literals(data: bytes) -> bytes:
    """LZF without a single copy."""
    parts = [data[at : at + 32] for at in range(0, len(data), 32)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
def test_pcd(kind, xyz, rgb, tmp_path):
    xyz = xyz.copy()
    xyz[3] = np.nan
    points = read_points(pcd_file(tmp_path / "a.pcd", xyz, rgb, kind))
    good = np.arange(COUNT) != 3
    assert np.array_equal(points.xyz, xyz[good]) and np.array_equal(points.rgb, rgb[good])
    assert points.total == COUNT and points.left_out == 1 and "1 of its 500 points have no finite" in points.notes[0]


def test_lzf_copies():
    # "ab", then 8 bytes from 2 back, which runs into itself; then a long copy of 7 + 2 + 10 from 1 back
    packed = bytes([1]) + b"ab" + bytes([6 << 5, 1]) + bytes([7 << 5, 10, 0])
    assert pcd.unpack_lzf(packed, 29) == b"ab" + b"abababab" + b"b" * 19
    for damaged in (bytes([6 << 5, 9]), packed[:-1], packed + b"\0c"):
        with pytest.raises((ValueError, IndexError)):
            pcd.unpack_lzf(damaged, 29)


# ---- text ----


LAYOUTS = {
    "plain.xyz": ("{x} {y} {z} {r} {g} {b}\n", ""),
    "commented.xyz": ("{x} {y} {z} {r} {g} {b}\n", "# made by hand\n//X Y Z R G B\n"),
    "scan.pts": ("{x} {y} {z} -1200 {r} {g} {b}\n", f"{COUNT}\n"),
    "named.csv": ("{b},{g},{r},7,{z},{y},{x}\n", "Blue,Green,Red,class,Z,Y,X\n"),
    "semicolons.csv": ("{x};{y};{z};{r};{g};{b}\n", '"x [m]";"y [m]";"z [m]";"red";"green";"blue"\n'),
    "normals.xyz": ("{x} {y} {z} 0.1 -0.2 0.3 {r} {g} {b}\n", ""),
    "windows.asc": ("{x}\t{y}\t{z}\t{r}\t{g}\t{b}\r\n", "\ufeff"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_text(name, xyz, rgb, tmp_path):
    line, head = LAYOUTS[name]
    body = "".join(
        line.format(x=repr(x), y=repr(y), z=repr(z), r=r, g=g, b=b)
        for (x, y, z), (r, g, b) in zip(xyz.tolist(), rgb.tolist(), strict=True)
    )
    (tmp_path / name).write_bytes((head + body).encode())
    points = read_points(tmp_path / name)
    assert np.array_equal(points.xyz, xyz) and np.array_equal(points.rgb, rgb) and points.total >= COUNT


def test_text_without_colours(xyz, tmp_path):
    np.savetxt(tmp_path / "a.xyz", xyz)
    assert (read_points(tmp_path / "a.xyz").rgb == 128).all()
    np.savetxt(tmp_path / "b.xyz", np.column_stack([xyz, np.arange(COUNT)]))
    assert read_points(tmp_path / "b.xyz").rgb[:, 0].ptp() == 255 if hasattr(np.ndarray, "ptp") else True


# ---- what memory holds, and what is wrong ----


def test_more_points_than_wanted_are_drawn_evenly_and_the_same_again(xyz, rgb, tmp_path):
    path = pcd_file(tmp_path / "a.pcd", xyz, rgb, "binary")
    points, again, other = (read_points(path, 100, seed) for seed in (0, 0, 1))
    assert len(points) == 100 and points.total == COUNT and "100 of its 500 points are read" in points.notes[0]
    assert np.array_equal(points.xyz, again.xyz) and not np.array_equal(points.xyz, other.xyz)
    rows = [int(np.flatnonzero((xyz == point).all(1))[0]) for point in points.xyz]
    assert rows == sorted(set(rows)) and all(np.array_equal(points.rgb[i], rgb[row]) for i, row in enumerate(rows))
    kept = Collector(1000, 100)
    for first in range(0, 1000, 50):
        kept.add(np.full((50, 3), float(first)))
    assert np.bincount(kept.arrays()["xyz"][:, 0].astype(int) // 50).tolist() == [5] * 20


WRONG = {
    "empty.xyz": (b"", "no lines of numbers"),
    "binary.xyz": (bytes(range(256)) * 40, "binary.xyz"),
    "two.xyz": (b"1 2\n3 4\n", "2 numbers"),
    "ragged.xyz": (b"1 2 3\n4 5\n", "ragged.xyz"),
    "no.pcd": (b"# .PCD v0.7\nVERSION 0.7\n", "no header"),
    "claims.pcd": (
        b"# .PCD\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 4000000000\nDATA binary\n" + bytes(64),
        "do not fit",
    ),
    "claims2.pcd": (
        b"# .PCD\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 4000000000\nDATA binary_compressed\n" + bytes(64),
        "do not fit",
    ),
    "type.pcd": (
        b"# .PCD\nFIELDS x y z\nSIZE 4 4 4\nTYPE Q F F\nPOINTS 1\nDATA binary\n" + bytes(64),
        "of the type Q",
    ),
    "other.bin": (b"nothing known", "no file of points"),
    "half.las": (b"LASF" + bytes(100), "cannot be read"),
    "half.e57": (b"ASTM-E57" + bytes(100), "cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_refused_in_a_sentence(name, tmp_path):
    if name.endswith((".las", ".e57")):
        pytest.importorskip("laspy")
        pytest.importorskip("pye57")
    content, reason = WRONG[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        read_points(path)
    assert name in str(caught.value) and "\n" not in str(caught.value) and path.read_bytes() == content


@pytest.mark.parametrize("kind", ["laz", "e57"])
def test_damaged_files_are_refused_or_read(kind, xyz, rgb, tmp_path):
    path = tmp_path / f"a.{kind}"
    las(path, xyz, rgb) if kind == "laz" else e57(path, xyz, rgb)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for number in range(4):
        raw = bytearray(data)
        if number == 0:
            raw = raw[: len(raw) // 2]
        else:
            for at in random.integers(0, len(raw) if number > 1 else 400, 12):
                raw[at] ^= 1 << int(random.integers(8))
        path.write_bytes(raw)
        try:
            points = read_points(path)
        except InputError as error:
            assert path.name in str(error) and "\n" not in str(error)
        else:
            assert points.xyz.nbytes < BELIEVED
        assert path.read_bytes() == bytes(raw)


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.las").write_bytes(b"LASF" + bytes(300))
    monkeypatch.setitem(sys.modules, "laspy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package laspy; install it: pip install 'splat-toolkit\[survey\]'"):
        read_points(tmp_path / "a.las")


# ---- on the command line ----


def test_info_and_convert_take_surveys(xyz, rgb, tmp_path, capsys):
    path = pcd_file(tmp_path / "a.pcd", xyz, rgb, "binary")
    assert main(["info", str(path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "points 500" in text and "412" in text
    assert main(["convert", str(path), str(tmp_path / "out.ply")]) == 0
    assert "a point cloud of 500 points without Gaussians" in capsys.readouterr().err
    cloud = formats.read_table(tmp_path / "out.ply")
    assert np.array_equal(cloud.means, xyz)  # in double precision
    assert main(["convert", str(tmp_path / "out.ply"), str(tmp_path / "out.las")]) == 2
    assert "only read" in capsys.readouterr().err
