"""Damaged and hostile files: one clear sentence or a valid cloud, quickly, and never much memory."""

import gzip
import importlib.util
import json
import resource
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.clouds import cloud_of

from splat import InputError, formats
from splat.formats.usd import reader_process

spec = importlib.util.spec_from_file_location("fuzz_formats", Path(__file__).parents[2] / "tools" / "fuzz_formats.py")
fuzz_formats = importlib.util.module_from_spec(spec)
sys.modules["fuzz_formats"] = fuzz_formats
spec.loader.exec_module(fuzz_formats)


@pytest.mark.parametrize("name", [name for name in fuzz_formats.VARIANTS if name != "usd"])
def test_damaged_files(name, tmp_path):
    cloud = fuzz_formats.sample_cloud(120)
    sources = []
    for file, options in fuzz_formats.VARIANTS[name]:
        formats.write(cloud, tmp_path / file, **options)
        sources.append((tmp_path / file, (tmp_path / file).read_bytes()))
        formats.read(tmp_path / file)  # loads the libraries that the format needs, whose memory is not the file's
    outcomes = set()
    for case in range(300):
        random = np.random.default_rng((1, case))
        path, data = sources[case % len(sources)]
        zipped = path.suffix == ".sog" and case % 2
        damaged = fuzz_formats.mutate_archive(path, random) if zipped else fuzz_formats.mutate(data, random)
        if name == "splatz" and case % 2:  # else its checksums refuse nearly everything
            damaged = fuzz_formats.reseal(damaged)
        target = path if name == "streamed-sog" else tmp_path / f"case{path.name[1:]}"
        target.write_bytes(damaged)
        outcome, _ = fuzz_formats.attempt(target, name)
        assert outcome in ("read", "refused"), f"case {case}: {outcome}"
        outcomes.add(outcome)
    assert outcomes == {"read", "refused"}


def test_damaged_usd_ends_no_process(tmp_path):
    pytest.importorskip("pxr")
    formats.write(cloud_of(50, 1), tmp_path / "a.usdc")
    data = (tmp_path / "a.usdc").read_bytes()
    for case in range(6):
        (tmp_path / "b.usdc").write_bytes(fuzz_formats.mutate(data, np.random.default_rng((3, case))))
        assert fuzz_formats.attempt(tmp_path / "b.usdc", "usd")[0] in ("read", "refused")


def test_usd_may_take_what_its_files_can_claim(tmp_path, monkeypatch):
    """Every file that the stage refers to is counted once, before it is opened: text 21 times, binary 4 times."""
    pytest.importorskip("pxr")
    limits = []
    monkeypatch.setattr(reader_process, "_limit_memory", limits.append)
    monkeypatch.setattr(reader_process, "_limit_time", lambda seconds: None)
    monkeypatch.setattr(reader_process, "_held", lambda: 0)
    for file in ("part.usdc", "part.usda", "part.usdz"):
        formats.write(cloud_of(20, 0), tmp_path / file)
    stage = tmp_path / "stage.usda"
    parts = "".join(
        f'def "P{i}" (references = @./part.{kind}@) {{}}\n' for i, kind in enumerate(("usdc", "usda", "usdc"))
    )
    stage.write_text(f"#usda 1.0\n{parts}")
    reader_process.admit(str(stage))
    size = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    text = 21 * (size["stage.usda"] + size["part.usda"])
    assert limits[0] == reader_process.MEMORY + 21 * size["stage.usda"]
    assert max(limits) == reader_process.MEMORY + text + 4 * size["part.usdc"]
    assert reader_process.times(tmp_path / "part.usdz") == 4
    assert len(formats.read(stage)) == 60


def test_a_usd_stage_that_refers_to_a_device(tmp_path):
    pytest.importorskip("pxr")
    stage = tmp_path / "stage.usda"
    stage.write_text('#usda 1.0\ndef "P" (references = @/dev/zero@) {}\n')
    with pytest.raises(InputError, match="is no ordinary file"):
        formats.read(stage)


@pytest.mark.parametrize("name", [name for name in fuzz_formats.VARIANTS if name != "usd"])
def test_every_cut_is_seen(name, tmp_path):
    """A file cut anywhere is refused, but for .splat, which cannot tell when whole records are missing."""
    for file, options in fuzz_formats.VARIANTS[name]:
        formats.write(cloud_of(20, 1), tmp_path / file, **options)
        data = (tmp_path / file).read_bytes()
        for part in np.linspace(0, len(data) - 2, 40).astype(int):
            if name == "splat" and part % 32 == 0:
                continue
            (tmp_path / file).write_bytes(data[:part])
            with pytest.raises(InputError, match=file.replace(".", r"\.")):
                formats.read(tmp_path / file, name)


def refused_cheaply(path: Path, name: str | None = None) -> str:
    """The message, after checking that no more than 100 MB were taken on the way."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        formats.read(path, name)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100_000
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_ply_that_claims_a_billion(encoding, tmp_path):
    path = tmp_path / "a.ply"
    formats.write(cloud_of(3, 0), path)
    data = path.read_bytes().replace(b"element vertex 3", b"element vertex 1000000000")
    path.write_bytes(data.replace(b"binary_little_endian", encoding.encode()))
    assert "1,000,000,000 rows" in refused_cheaply(path)


def test_spz_that_claims_a_billion(tmp_path):
    path = tmp_path / "a.spz"
    for version in (2, 4):
        formats.write(cloud_of(3, 0), path, version=version)
        data = path.read_bytes()
        plain = bytearray(gzip.decompress(data) if version == 2 else data)
        plain[8:12] = struct.pack("<I", 1_000_000_000)
        path.write_bytes(gzip.compress(bytes(plain)) if version == 2 else bytes(plain))
        assert "1,000,000,000 Gaussians" in refused_cheaply(path)


def test_gzip_bomb(tmp_path):
    """A small honest header, then gigabytes of zeros: nothing after the claim is inflated."""
    path = tmp_path / "a.spz"
    formats.write(cloud_of(3, 0), path, version=2)
    packer = __import__("zlib").compressobj(9, 8, 31)
    data = packer.compress(gzip.decompress(path.read_bytes()))
    zeros = bytes(1 << 20)
    path.write_bytes(data + b"".join(packer.compress(zeros) for _ in range(500)) + packer.flush())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(formats.read(path)) == 3
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100_000


def test_zstd_bomb(tmp_path):
    import zstandard

    path = tmp_path / "a.spz"
    formats.write(cloud_of(3, 0), path, version=4)
    data = bytearray(path.read_bytes())
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(400 << 20))
    first = struct.unpack_from("<QQ", data, 32)
    data[32:40] = struct.pack("<Q", len(bomb))
    start = 32 + 16 * 5
    path.write_bytes(bytes(data[:start]) + bomb + bytes(data[start + first[0] :]))
    assert "more than 27 bytes" in refused_cheaply(path)


def sog_parts(tmp_path: Path) -> dict[str, bytes]:
    formats.write(cloud_of(40, 1), tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_zip_bomb(tmp_path):
    parts = sog_parts(tmp_path)
    with zipfile.ZipFile(tmp_path / "b.sog", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.json", b" " * (300 << 20) + parts["meta.json"])
    assert "meta.json" in refused_cheaply(tmp_path / "b.sog")


def test_picture_bomb(tmp_path):
    """A one-colour WebP of 16383² pixels is a few hundred bytes; it is refused by its header."""
    from PIL import Image

    parts = sog_parts(tmp_path)
    bomb = tmp_path / "bomb.webp"
    Image.new("RGB", (16383, 4000)).save(bomb, lossless=True, method=0)
    with zipfile.ZipFile(tmp_path / "b.sog", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, bomb.read_bytes() if name == "quats.webp" else data)
    assert "'quats.webp' has 16383×4000 pixels" in refused_cheaply(tmp_path / "b.sog")


@pytest.mark.parametrize("name", ["../secret.webp", "/etc/passwd", "..", "a/b.webp", "a\\b.webp", ""])
def test_paths_cannot_leave_the_sog(name, tmp_path):
    (tmp_path / "secret.webp").write_bytes(b"secret")
    formats.write(cloud_of(10, 0), tmp_path / "in" / "meta.json")
    meta = json.loads((tmp_path / "in" / "meta.json").read_text())
    meta["quats"]["files"] = [name]
    (tmp_path / "in" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="is not a plain name"):
        formats.read(tmp_path / "in")


def test_hostile_trees_of_a_streamed_sog(tmp_path):
    path = tmp_path / "in" / "lod-meta.json"
    formats.write(cloud_of(10, 0), path)
    meta = json.loads(path.read_text())
    leaf = meta["tree"]["lods"]["0"]
    for change, said in (
        ({"filenames": ["../secret/meta.json"]}, "is not a plain name"),
        ({"tree": {"children": [meta["tree"]] * 2}}, "twice or beyond"),
        ({"tree": {"lods": {"0": leaf | {"count": 10**9}}}}, "twice or beyond"),
        ({"tree": {"lods": {"0": leaf | {"file": 7}}}}, "file 7 of 1"),
        ({"tree": {"lods": {"finest": leaf}}}, "cannot be understood"),
    ):
        path.write_text(json.dumps(meta | change))
        assert said in refused_cheaply(path)


def test_paths_cannot_leave_the_gltf(tmp_path):
    formats.write(cloud_of(10, 0), tmp_path / "a.gltf")
    asset = json.loads((tmp_path / "a.gltf").read_text())
    for uri in ("../secret.bin", "/etc/passwd", "%2e%2e/secret", "file:///etc/passwd"):
        asset["buffers"][0]["uri"] = uri
        (tmp_path / "a.gltf").write_text(json.dumps(asset))
        with pytest.raises(InputError, match="expected a file name beside"):
            formats.read(tmp_path / "a.gltf")


def test_a_cyclic_scene_is_refused(tmp_path):
    formats.write(cloud_of(10, 0), tmp_path / "a.gltf")
    asset = json.loads((tmp_path / "a.gltf").read_text())
    asset["nodes"][0]["children"] = [0, 0]
    (tmp_path / "a.gltf").write_text(json.dumps(asset))
    with pytest.raises(InputError, match="cycle"):
        formats.read(tmp_path / "a.gltf")


def test_messages_name_what_to_do(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        formats.read(tmp_path / "absent.ply")
    (tmp_path / "a.abc").write_bytes(b"1 2 3")
    with pytest.raises(InputError, match=r"use one of \.ply"):
        formats.read(tmp_path / "a.abc")
    with pytest.raises(InputError, match="has no option 'level'; its options are: version"):
        formats.write(cloud_of(2, 0), tmp_path / "a.spz", level=1)
    with pytest.raises(InputError, match="choose 2, 3 or 4"):
        formats.write(cloud_of(2, 0), tmp_path / "a.spz", version=1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.abc"]


def test_content_wins_over_the_suffix(tmp_path):
    formats.write(cloud_of(7, 0), tmp_path / "a.sog")
    (tmp_path / "a.sog").rename(tmp_path / "wrong.spz")
    assert formats.recognise(tmp_path / "wrong.spz").name == "sog"
    assert len(formats.read(tmp_path / "wrong.spz")) == 7
