"""Write and read back: lossless formats bit for bit, lossy ones within the steps of their specifications."""

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from support.clouds import angles, cloud_of, clouds, same_bits

from splat import InputError, formats
from splat.cloud_arrays import GaussianArrays
from splat.coding import morton
from splat.coding.importance import importance
from splat.formats import axes, ksplat
from splat.formats.ply import compressed
from splat.formats.sog import streamed
from splat.formats.spz import quantizer
from splat.formats.usd import reader_process, usd

TRIES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Half a step of: opacity; base colour as sRGB byte, in SH units; quaternions.
BYTE = 0.5 / 255 + 1e-6
COLOR = BYTE / 0.28209479


def back(cloud, path, **options):
    """Write, read, and check what holds for every format."""
    formats.write(cloud, path, **options)
    result = formats.read(path)
    assert len(result) == len(cloud) and result.sh_degree <= cloud.sh_degree
    for name in ("means", "log_scales", "quats", "logit_opacities", "sh"):
        assert getattr(result, name).isfinite().all(), name
    return result


def assert_close(found, wanted, limit, what):
    worst = float((found - wanted).abs().max()) if found.numel() else 0.0
    assert worst <= limit, f"{what}: {worst} beyond {limit}"


def clamped_color(cloud):
    """Base colours as 8-bit formats can hold them."""
    return ((cloud.sh[:, 0] * 0.28209479 + 0.5).clamp(0, 1) - 0.5) / 0.28209479


@given(cloud=clouds())
@TRIES
def test_ply_is_lossless(cloud, tmp_path):
    formats.write(cloud, tmp_path / "a.ply")
    wanted = cloud.replace(logit_opacities=torch.nan_to_num(cloud.logit_opacities, posinf=20.0, neginf=-20.0))
    assert same_bits(formats.read(tmp_path / "a.ply"), wanted)


@given(cloud=clouds())
@TRIES
def test_compressed_ply_within_its_steps(cloud, tmp_path):
    found = back(cloud, tmp_path / "a.compressed.ply", reorder=False)
    for first in range(0, len(cloud), compressed.ROWS):
        rows = slice(first, first + compressed.ROWS)
        a, b = cloud.select(rows), found.select(rows)
        reach = a.means.abs().max()
        for name, value in (("means", a.means), ("log_scales", a.log_scales.clamp(-20, 20))):
            span = value.amax(0) - value.amin(0)
            step = torch.stack([span[0] / 2047, span[1] / 1023, span[2] / 2047])
            error = (getattr(b, name) - value).abs().amax(0)
            assert (error <= step * 0.501 + 2e-6 * (reach if name == "means" else 20)).all(), name
        span = a.sh[:, 0].amax(0) - a.sh[:, 0].amin(0)
        assert ((b.sh[:, 0] - a.sh[:, 0]).abs().amax(0) <= span / 255 * 0.501 + 1e-5).all()
    assert_close(found.opacities, cloud.opacities, BYTE, "opacity")
    assert (angles(found, cloud) <= 0.25).all()  # 10 bits over ±1/√2, three parts
    rest = cloud.sh[:, 1 : found.sh.shape[1]]
    assert_close(found.sh[:, 1:], rest, 8 / 256 / 2 + 1e-6, "SH")
    assert not cloud.sh[:, found.sh.shape[1] :].any()


@given(cloud=clouds())
@TRIES
def test_splat_within_its_steps(cloud, tmp_path):
    found = back(cloud, tmp_path / "a.splat", reorder=False)
    assert torch.equal(found.means, cloud.means)
    assert_close(found.log_scales, cloud.log_scales, 1e-5, "ln-scale")
    assert_close(found.opacities, cloud.opacities, BYTE, "opacity")
    assert_close(found.sh[:, 0], clamped_color(cloud), COLOR, "colour")
    assert (angles(found, cloud) <= 1.0).all()


@pytest.mark.parametrize("level", [0, 1, 2])
@given(cloud=clouds())
@TRIES
def test_ksplat_within_its_steps(level, cloud, tmp_path):
    found = back(cloud, tmp_path / "a.ksplat", level=level)
    wanted = cloud.with_sh_degree(min(2, cloud.sh_degree))
    if level:
        order, _, _, block = ksplat._buckets(wanted.means.numpy())
        wanted = wanted.select(torch.from_numpy(order))
        assert_close(
            found.means,
            wanted.means,
            block / 2 / 32767 * 0.501 + 2e-7 * wanted.means.abs().max() if len(wanted) else 0,
            "means",
        )
        # Half floats hold ln-scales of -9.7 and more well; what is smaller becomes the smallest.
        seen = wanted.log_scales > -9
        assert_close(found.log_scales[seen], wanted.log_scales[seen], 2e-3, "ln-scale")
        assert (angles(found, wanted) <= 0.15).all()
    else:
        assert torch.equal(found.means, wanted.means)
        assert_close(found.log_scales, wanted.log_scales, 1e-5, "ln-scale")
        assert (angles(found, wanted) <= 1e-3).all()
    assert_close(found.opacities, wanted.opacities, BYTE, "opacity")
    assert_close(found.sh[:, 0], clamped_color(wanted), COLOR, "colour")
    span = float(wanted.sh[:, 1:].max() - wanted.sh[:, 1:].min()) if wanted.sh[:, 1:].numel() else 0.0
    assert_close(found.sh[:, 1:], wanted.sh[:, 1:], {0: 0.0, 1: 1e-3, 2: span / 255 * 0.501 + 1e-6}[level], "SH")


@pytest.mark.parametrize("version", [2, 3, 4])
@given(cloud=clouds())
@TRIES
def test_spz_within_its_steps(version, cloud, tmp_path):
    found = back(cloud, tmp_path / "a.spz", version=version, reorder=False)
    assert_close(found.means, cloud.means, 2.0**-13 + 1e-5, "means")
    assert_close(found.log_scales, cloud.log_scales.clamp(-10, 5.9375), 1 / 32 + 1e-5, "ln-scale")
    assert_close(found.opacities, cloud.opacities, BYTE, "opacity")
    assert_close(found.sh[:, 0], cloud.sh[:, 0].clamp(-3.33, 3.33), 0.5 / 255 / 0.15 + 1e-5, "colour")
    # One step of the reference encoder: 2^-4 for band 1 and 2^-3 for the others; less important ones may use all of it.
    sh = cloud.sh.clamp(-1, 127 / 128)  # what a byte can say
    assert_close(found.sh[:, 1:4], sh[:, 1:4], 2.0**-4, "SH 1")
    assert_close(found.sh[:, 4:], sh[:, 4:], 2.0**-3, "SH 2 and 3")
    assert (angles(found, cloud) <= (12 if version == 2 else 0.25)).all()
    if version == 2:  # the left-out w is coarse only where it is small
        w = torch.nn.functional.normalize(cloud.quats / cloud.quats.abs().amax(1, keepdim=True), dim=1)[:, 0].abs()
        assert (angles(found, cloud)[w > 0.3] <= 2.5).all()


def test_spz_finds_the_rotations_of_an_spz_again(tmp_path):
    """Also those where rounding made another part than the one left out the largest."""
    code = np.random.default_rng(0).integers(0, 1 << 32, 20_000, dtype=np.uint64).astype(np.uint32)
    quats = quantizer._unpack_quats(code)
    norm = np.linalg.norm(quats, axis=1)
    largest = np.take_along_axis(quats, ((code >> 30).astype(int)[:, None] + 1) % 4, 1)[:, 0]
    near = (np.abs(norm - 1) < 1e-6) & (np.abs(quats).max(1) < largest + 2e-3)  # what encoders leave out
    assert near.sum() > 1000 and (np.abs(quats).argmax(1) != ((code >> 30).astype(int) + 1) % 4)[near].any()
    again = quantizer._unpack_quats(quantizer._pack_quats(quats[near]).view("<u4")[:, 0])
    dot = np.abs((again.astype(np.float64) * quats[near]).sum(1))
    assert (dot > 1 - 1e-6).all()


def test_spz_2_rounds_with_care_near_half_turns():
    quats = np.random.default_rng(0).normal(size=(5000, 4)).astype(np.float32) * [0.05, 1, 1, 1]
    quats = (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32)
    found = quantizer._first_three(quantizer._pack_first_three(quats)).astype(np.float64)
    plain = np.rint((quats[:, 1:] * np.copysign(1, quats[:, :1]) + 1) * 127.5)
    plain = quantizer._first_three(plain.astype(np.uint8)).astype(np.float64)
    wrong = [1 - np.abs((q * quats).sum(1)) / np.linalg.norm(q, axis=1) for q in (found, plain)]
    assert (wrong[0] <= wrong[1] + 1e-9).all() and wrong[0].mean() < 0.5 * wrong[1].mean()


def test_compressed_ply_of_zeros_has_no_tint(tmp_path):
    cloud = cloud_of(512, 3)
    cloud.sh[1:, 1:] = 0
    found = back(cloud, tmp_path / "a.compressed.ply", reorder=False)
    rest = found.sh[1:, 1:].double()
    assert float(rest.abs().mean()) == pytest.approx(1 / 64) and abs(float(rest.mean())) < 1e-4


@given(cloud=clouds())
@TRIES
def test_sog_within_its_steps(cloud, tmp_path):
    found = back(cloud, tmp_path / "a.sog", reorder=False)
    logs = torch.copysign(cloud.means.double().abs().log1p(), cloud.means.double())
    found_logs = torch.copysign(found.means.double().abs().log1p(), found.means.double())
    if len(cloud):
        step = (logs.amax(0) - logs.amin(0)) / 65535
        assert ((found_logs - logs).abs().amax(0) <= step * 0.501 + 1e-6).all()
    assert_close(found.opacities, cloud.opacities, BYTE, "opacity")
    assert (angles(found, cloud) <= 1.0).all()
    # 256 free codes serve what is seen at least as well as 256 codes spread evenly would, and nothing badly.
    weight = torch.from_numpy(importance(GaussianArrays.of(cloud), 1e5))[:, None]
    weight = weight.clamp_min(0.1 * float(weight.mean())) if len(cloud) else weight
    for other, value in ((found.log_scales, cloud.log_scales.clamp_min(-20)), (found.sh[:, 0], cloud.sh[:, 0])):
        if len(cloud):
            low, step = value.min(), (value.max() - value.min()) / 255 + 1e-9
            even = ((value - low) / step).round() * step + low
            error, bound = (weight * (other - value) ** 2).sum(), (weight * (even - value) ** 2).sum()
            assert error <= bound + 1e-9
            assert_close(other, value, 0.6, "codebook")


@given(cloud=clouds())
@TRIES
def test_gltf_keeps_float_precision(cloud, tmp_path):
    for name, file in (("plain", "a.glb"), ("text", "a.gltf")):
        found = back(cloud, tmp_path / file)
        assert torch.equal(found.means, cloud.means), name
        assert_close(found.log_scales, cloud.log_scales, 1e-5, "ln-scale")
        assert_close(found.opacities, cloud.opacities, 1.1e-6, "opacity")
        assert torch.equal(found.sh, cloud.sh) or len(cloud) == 0
        assert (angles(found, cloud) <= 1e-3).all()


@pytest.fixture
def usd_here(monkeypatch):
    """USD read in this process: half a second less for each file."""
    pytest.importorskip("pxr")

    def extract(path, out):
        np.savez(out, **reader_process.extract(str(path)))
        return 0, ""

    monkeypatch.setattr(usd, "extract", extract)


@pytest.mark.parametrize("file", ["a.usdc", "a.usda", "a.usdz"])
@given(cloud=clouds())
@TRIES
def test_usd_keeps_float_precision(file, cloud, usd_here, tmp_path):
    found = back(cloud, tmp_path / file)
    assert torch.allclose(found.means, cloud.means, rtol=1e-6, atol=1e-6)
    assert_close(found.log_scales, cloud.log_scales, 1e-4, "ln-scale")
    assert_close(found.opacities, cloud.opacities, 1.1e-6, "opacity")
    assert_close(found.sh, cloud.sh[:, : found.sh.shape[1]], 1e-5, "SH")
    assert (angles(found, cloud) <= 1e-3).all()


def test_usd_through_a_process_of_its_own(tmp_path):
    pytest.importorskip("pxr")
    cloud = cloud_of(40, 2)
    assert_close(back(cloud, tmp_path / "a.usdz").means, cloud.means, 1e-5, "means")


def test_points_keep_centres_and_colours(tmp_path):
    cloud = cloud_of(200, 2)
    found = back(cloud, tmp_path / "a.points.ply")
    assert torch.equal(found.means, cloud.means) and found.sh_degree == 0
    assert_close(found.sh[:, 0], clamped_color(cloud), COLOR, "colour")
    distance = torch.cdist(cloud.means.double(), cloud.means.double()).topk(4, largest=False).values[:, 1:].mean(1)
    assert torch.allclose(found.scales[:, 0].double(), distance, rtol=1e-3)


def test_degree_4_survives_where_it_can(tmp_path):
    cloud = cloud_of(50, 4)
    assert same_bits(_written(cloud, tmp_path / "a.ply"), cloud)
    assert _written(cloud, tmp_path / "a.spz").sh_degree == 4
    assert _written(cloud, tmp_path / "a.sog").sh_degree == 3


def _written(cloud, path, **options):
    formats.write(cloud, path, **options)
    return formats.read(path)


def test_reordering_only_reorders(tmp_path):
    cloud = cloud_of(700, 1)
    curve = torch.from_numpy(morton.morton(cloud.means.numpy()))
    assert sorted(curve.tolist()) == list(range(700))
    for file in ("a.sog", "a.spz", "a.compressed.ply"):
        plain, sorted_ = _written(cloud, tmp_path / file, reorder=False), _written(cloud, tmp_path / file)
        assert_close(sorted_.means, cloud.means[curve], 4e-3, file)
        assert_close(sorted_.opacities, plain.opacities[curve], 1e-6, file)


@pytest.mark.parametrize("frame", ["RUB", "LUF", "RFU", "LFD", "RUF"])
def test_frames_turn_shapes_and_colours_along(frame):
    from splat.sh import basis

    cloud = cloud_of(40).to(dtype=torch.float64)
    turned, matrix = axes.convert(GaussianArrays.of(cloud), "RDF", frame), torch.from_numpy(axes.change("RDF", frame))
    turned = turned.cloud()
    assert torch.allclose(turned.means, cloud.means @ matrix.T)
    assert torch.allclose(turned.covariances, matrix @ cloud.covariances @ matrix.T, atol=1e-9)
    directions = torch.nn.functional.normalize(cloud.means + 0.3, dim=1)
    before = (basis(directions, 3)[..., None] * cloud.sh).sum(1)
    after = (basis(directions @ matrix.T, 3)[..., None] * turned.sh).sum(1)
    assert torch.allclose(before, after, atol=1e-6)
    home = axes.convert(GaussianArrays.of(turned), frame, "RDF").cloud()
    assert torch.allclose(home.means, cloud.means) and torch.allclose(home.covariances, cloud.covariances, atol=1e-9)


def test_spz_frames_are_declared_and_undone(tmp_path):
    cloud = cloud_of(60)
    formats.write(cloud, tmp_path / "a.spz", frame="RUB", reorder=False)
    from splat.formats.spz import spz

    found = spz.read(tmp_path / "a.spz", frame="RUB").cloud()
    assert_close(found.means, cloud.means, 2.0**-12, "means")
    assert_close(formats.read(tmp_path / "a.spz").means[:, 1], -cloud.means[:, 1], 2.0**-12, "as other tools read it")


@pytest.mark.parametrize("file", ["a.ply", "a.spz", "a.sog"])
def test_the_antialiased_mark_is_kept(file, tmp_path):
    for mark in (False, True):
        formats.write(cloud_of(5, 0), tmp_path / file, antialiased=mark)
        assert formats.recognise(tmp_path / file).function("antialiased")(tmp_path / file) is mark


def test_broken_gaussians_are_refused_by_lossy_formats(tmp_path):
    cloud = cloud_of(5, 0)
    cloud.means[2, 1] = torch.nan
    for file in ("a.spz", "a.sog", "a.splat", "a.ksplat", "a.compressed.ply", "a.glb"):
        with pytest.raises(InputError, match="1 of 5 Gaussians"):
            formats.write(cloud, tmp_path / file)
        assert not list(tmp_path.iterdir())


def test_same_cloud_same_bytes(tmp_path):
    cloud = cloud_of(1500)
    for file, options in (("a.spz", {"version": 3}), ("a.spz", {"version": 4}), ("a.sog", {}), ("a.glb", {})):
        first = (formats.write(cloud, tmp_path / file, **options), (tmp_path / file).read_bytes())[1]
        assert (formats.write(cloud, tmp_path / file, **options), (tmp_path / file).read_bytes())[1] == first


def test_folder_sog_equals_the_bundle(tmp_path):
    cloud = cloud_of(100)
    formats.write(cloud, tmp_path / "a.sog")
    formats.write(cloud, tmp_path / "folder" / "meta.json")
    bundle = formats.read(tmp_path / "a.sog")
    assert same_bits(formats.read(tmp_path / "folder"), bundle)
    assert same_bits(formats.read(tmp_path / "folder" / "meta.json"), bundle)


def test_streamed_sog_has_all_gaussians_at_its_finest_level(tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "LEAF", 1000)
    monkeypatch.setattr(streamed, "FILE", 2500)
    cloud = cloud_of(6000, 1)
    formats.write(cloud, tmp_path / "lod-meta.json", levels=2)
    assert formats.recognise(tmp_path).name == "streamed-sog"
    found = formats.read(tmp_path)
    nearest = torch.cdist(cloud.means, found.means).argmin(1)
    assert nearest.unique().numel() == len(found) == 6000
    assert_close(found.means[nearest], cloud.means, 1e-3, "means")
    meta = json.loads((tmp_path / "lod-meta.json").read_text())
    assert meta["counts"] == [6000, 1500] and len(meta["filenames"]) > 3
    leaves, stack = [], [meta["tree"]]
    while stack:
        node = stack.pop()
        stack += node.get("children", [])
        leaves += [node] if "lods" in node else []
    for leaf in leaves:  # every Gaussian lies in the box of its leaf
        place = leaf["lods"]["0"]
        assert place["count"] <= 1000
        part = formats.read(tmp_path / meta["filenames"][place["file"]])
        means = part.means[place["offset"] :][: place["count"]]
        low, high = (torch.tensor(leaf["bound"][end]) - shift for end, shift in (("min", 1e-3), ("max", -1e-3)))
        assert ((means >= low) & (means <= high)).all()


@pytest.mark.parametrize("file", ["a.ply", "a.compressed.ply", "a.spz", "a.sog", "a.glb"])
def test_leaving_out_bands_while_reading(file, tmp_path):
    formats.write(cloud_of(50), tmp_path / file)
    whole = formats.read(tmp_path / file)
    for degree in (0, 1, 2, 3, 4):
        part = formats.read_table(tmp_path / file, max_degree=degree).cloud()
        assert same_bits(part, whole.with_sh_degree(min(degree, 3)))


def test_sog_written_twice_loses_nothing_more(tmp_path):
    once = _written(cloud_of(3000), tmp_path / "a.sog", palette=500)
    twice = _written(once, tmp_path / "b.sog", reorder=False)
    assert torch.equal(once.sh, twice.sh) and torch.equal(once.log_scales, twice.log_scales)
    assert_close(twice.opacities, once.opacities, 1e-6, "opacity")
