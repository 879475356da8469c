"""Every real cloud of the shared folder through every format, and against what the reference encoders made."""

import importlib.util
from pathlib import Path

import pytest
import test_formats_round_trip as steps
from support.clouds import same_bits

from splat import formats

spec = importlib.util.spec_from_file_location("bench_formats", Path(__file__).parents[2] / "tools" / "bench_formats.py")
bench_formats = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench_formats)

FRUIT, SOURCE = "derived-fruit/fruit", "playcanvas-supersplat-history/fruit_drops_minimal.ply"
MOST = 600  # rows of a file that go through the lossy formats
# Checks of one cloud: writes it, reads it back and compares within the steps of the specification.
LOSSY = [
    ("compressed ply", steps.test_compressed_ply_within_its_steps, {}),
    ("splat", steps.test_splat_within_its_steps, {}),
    *((f"ksplat {level}", steps.test_ksplat_within_its_steps, {"level": level}) for level in (0, 1, 2)),
    *((f"spz {version}", steps.test_spz_within_its_steps, {"version": version}) for version in (2, 3, 4)),
    ("sog", steps.test_sog_within_its_steps, {}),
    ("gltf", steps.test_gltf_keeps_float_precision, {}),
]


@pytest.fixture(scope="module")
def real(shared):
    """(name, cloud) of every file in the folder."""
    folder = shared / "splats"
    found = []
    for line in (folder / "MANIFEST.tsv").read_text().splitlines()[1:]:
        path = folder / line.split("\t")[0]
        if path.suffix != ".webp" and path.exists():
            found.append((path.relative_to(folder), formats.read(path)))
    return found


def test_every_real_cloud_is_kept_by_ply(real, tmp_path):
    for name, cloud in real:
        formats.write(cloud, tmp_path / "a.ply")
        assert same_bits(formats.read(tmp_path / "a.ply"), cloud), name
    assert len(real) > 30


@pytest.mark.parametrize("name, check, options", LOSSY, ids=[row[0] for row in LOSSY])
def test_every_real_cloud_within_the_steps(name, check, options, real, tmp_path):
    for file, cloud in real:
        part = cloud.select(slice(None, None, max(1, len(cloud) // MOST))).replace(extras={})
        try:
            check.hypothesis.inner_test(**options, cloud=part, tmp_path=tmp_path)
        except AssertionError as error:
            raise AssertionError(f"{file}: {error}") from error


@pytest.fixture(scope="module")
def fruit(shared):
    cloud = formats.read(shared / "splats" / SOURCE).replace(extras={})
    views = bench_formats.cameras(cloud, 2)
    return cloud, views, bench_formats.pictures(cloud, views)


@pytest.mark.parametrize(
    "file, options",
    [
        (".compressed.ply", {}),
        (".splat", {}),
        (".spz", {"version": 4}),
        (".v3.spz", {"version": 3}),
        (".sog", {}),
        (".glb", {}),
    ],
)
def test_no_larger_and_no_worse_than_the_reference_encoder(file, options, fruit, shared, tmp_path):
    cloud, views, truth = fruit
    theirs, ours = shared / "splats" / (FRUIT + file), tmp_path / ("a" + file)
    formats.write(cloud, ours, **options)
    quality = [bench_formats.psnr(truth, bench_formats.pictures(formats.read(path), views)) for path in (ours, theirs)]
    assert ours.stat().st_size <= theirs.stat().st_size
    assert quality[0] >= min(quality[1] - 0.02, 90)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_ksplat_against_the_reference_encoder(level, fruit, shared, tmp_path):
    """It leaves out what is less opaque than 1/255, so that sizes are compared by Gaussian; SH 3 has no place."""
    cloud, views, _ = fruit
    truth = bench_formats.pictures(cloud.with_sh_degree(2), views)
    theirs, ours = shared / "splats" / f"{FRUIT}.L{level}.ksplat", tmp_path / "a.ksplat"
    formats.write(cloud, ours, level=level)
    clouds = [formats.read(path) for path in (ours, theirs)]
    quality = [bench_formats.psnr(truth, bench_formats.pictures(found, views)) for found in clouds]
    sizes = [path.stat().st_size / len(found) for path, found in zip((ours, theirs), clouds, strict=True)]
    assert quality[0] > quality[1] and sizes[0] <= sizes[1] * 1.001
