"""The container `.splatz`: what it keeps, how small it is, and that no damage passes unnoticed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splat import InputError, formats
from splat.cloud import FIELDS, GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.coding import rans as entropy
from splat.coding import rans_tables
from splat.formats.splatz import container, rotation
from splat.formats.splatz.rows import ordered_axes


def encode(cloud, **options):
    return container.encode(GaussianArrays.of(cloud), **options)


def decode(data, path, layers=None):
    return container.decode(data, path, layers).cloud()


def blobs(count: int, degree: int = 2, seed: int = 0) -> GaussianCloud:
    """Random Gaussians of every shape, on the surface of a ball."""
    g = torch.Generator().manual_seed(seed)
    sh = 0.3 * torch.randn(count, (degree + 1) ** 2, 3, generator=g)
    sh[:, 1:] *= 0.3
    return GaussianCloud(
        torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1),
        torch.randn(count, 3, generator=g) - 4,
        torch.randn(count, 4, generator=g),
        2 * torch.randn(count, generator=g),
        sh,
    )


def match(cloud: GaussianCloud, found: GaussianCloud) -> torch.Tensor:
    """(N,) row of ``found`` nearest to each row of ``cloud``; a permutation when nothing was lost."""
    rows = torch.cdist(cloud.means.double(), found.means.double()).argmin(1)
    assert len(rows.unique()) == len(cloud) == len(found)
    return rows


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2500),
    st.integers(0, 2**31),
    st.sampled_from([1.0, 30.0, 4000.0, 1e8]),
)
def test_entropy_coder_returns_what_it_got(count, seed, spread):
    random = np.random.default_rng(seed)
    context = random.integers(0, 5, count)
    values = np.abs(random.laplace(0, spread, count) * (1 + context)).clip(0, 2**31 - 1).astype(np.int64)
    data = entropy.encode(values, context, 5)
    assert np.array_equal(entropy.decode(data, count, context, 5), values)


def test_enormous_colours_are_held_as_large_as_codes_go():
    cloud = GaussianCloud.empty(1)
    tensors = {name: torch.ones((3, *getattr(cloud, name).shape[1:])) for name in FIELDS}
    cloud = GaussianCloud(**tensors | {"sh": torch.full((3, 4, 3), 1e15)})
    assert (container.decode(container.encode(GaussianArrays.of(cloud)), "a.splatz").sh > 1e6).any()


def test_entropy_coder_comes_near_the_entropy():
    random = np.random.default_rng(0)
    values = random.geometric(0.2, 100_000) - 1
    share = np.bincount(values) / len(values)
    bits = -(share[share > 0] * np.log2(share[share > 0])).sum()
    assert len(entropy.encode(values)) * 8 / len(values) < 1.02 * bits


def test_bits_without_gaps():
    sizes = np.array([0, 3, 1, 31, 0, 7])
    values = np.array([0, 5, 1, 2**31 - 2, 0, 100])
    data = entropy.pack_bits(values, sizes)
    assert len(data) == -(-42 // 8)
    assert np.array_equal(entropy.unpack_bits(data, sizes), values)


def test_ordered_axes_keep_the_ellipsoid():
    cloud = blobs(500)
    quats = torch.nn.functional.normalize(cloud.quats.double(), dim=1)
    scales, turned = ordered_axes(cloud.log_scales.double().numpy(), quats.numpy())
    assert (np.diff(scales, axis=1) <= 0).all()
    assert (turned[:, :1] >= np.abs(turned[:, 1:]) - 1e-9).all()
    again = cloud.to(dtype=torch.float64).replace(log_scales=torch.from_numpy(scales), quats=torch.from_numpy(turned))
    torch.testing.assert_close(again.covariances, cloud.to(dtype=torch.float64).covariances, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 4])
@pytest.mark.parametrize("count", [1, 1500])
def test_high_quality_keeps_everything(count, degree, tmp_path):
    cloud = blobs(count, degree)
    formats.write(cloud, tmp_path / "a.splatz", quality=142.0)
    found = formats.read(tmp_path / "a.splatz")
    found = found.select(match(cloud, found))
    assert found.sh_degree == degree
    assert (found.means - cloud.means).abs().max() < 1e-4
    assert (found.opacities - cloud.opacities).abs().max() < 1e-3
    relative = (found.covariances - cloud.covariances).flatten(1).norm(dim=1) / cloud.covariances.flatten(1).norm(dim=1)
    assert relative.max() < 0.01
    assert (found.sh - cloud.sh).abs().max() < 0.01


def test_quality_trades_bytes_for_errors(tmp_path):
    cloud = blobs(2000, 3)
    sizes = [len(encode(cloud, quality=quality)) for quality in (30, 50, 70)]
    assert sizes[0] < 0.75 * sizes[1] < 0.75 * 0.75 * sizes[2]


def test_layers_come_most_visible_first(tmp_path):
    cloud = blobs(3000, 1)
    data = encode(cloud, layers=3)
    whole = decode(data, tmp_path)
    first = decode(data[: len(data) // 3], tmp_path, layers=1)
    assert len(whole) == 3000 and 0 < len(first) < 500
    torch.testing.assert_close(first.means, whole.means[: len(first)])

    def visibility(part: GaussianCloud) -> float:
        return float((part.log_scales.topk(2, 1).values.sum(1).exp() * part.opacities).min())

    assert visibility(first) > 0.5 * visibility(whole.select(slice(len(first), None))) > 0
    assert len(decode(data, tmp_path, layers=2)) > len(first)


def test_every_flipped_byte_is_noticed(tmp_path):
    data = bytearray(encode(blobs(60, 1), layers=2))
    for at in range(len(data)):
        data[at] ^= 1 << at % 8
        with pytest.raises(InputError, match="a.splatz"):
            decode(bytes(data), tmp_path / "a.splatz")
        data[at] ^= 1 << at % 8
    decode(bytes(data), tmp_path / "a.splatz")


def test_every_cut_and_addition_is_noticed(tmp_path):
    data = encode(blobs(40, 1))
    for end in range(len(data)):
        with pytest.raises(InputError, match="a.splatz"):
            decode(data[:end], tmp_path / "a.splatz")
    with pytest.raises(InputError, match="expected"):
        decode(data + b"\0", tmp_path / "a.splatz")


def test_wrong_streams_with_right_checksums(tmp_path, monkeypatch):
    """What an attacker would write reaches the decoder, which must refuse it or give a cloud."""
    monkeypatch.setattr(container, "_check", lambda *_: None)
    data, random = encode(blobs(300, 1)), np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        raw = np.frombuffer(data, np.uint8).copy()
        raw[random.integers(container.HEADER.size, len(raw), random.integers(1, 4))] = random.integers(0, 256)
        try:
            assert len(decode(raw.tobytes(), tmp_path)) == 300
        except InputError:
            refused += 1
    assert refused > 20


def test_empty_and_unusual_clouds(tmp_path):
    path = tmp_path / "a.splatz"
    formats.write(GaussianCloud.empty(2), path)
    assert len(formats.read(path)) == 0
    cloud = blobs(300, 1)
    means = cloud.means.clone()
    means[:] = means[0]
    means[7] = 1e6
    logits = cloud.logit_opacities.clone()
    logits[0], logits[1] = torch.inf, -torch.inf
    scales = cloud.log_scales.clone()
    scales[3] = -torch.inf
    formats.write(cloud.replace(means=means, logit_opacities=logits, log_scales=scales), path, antialiased=True)
    found = formats.read(path)
    assert len(found) == 300 and bool(found.finite().all())
    assert container.antialiased(path)
    means[5, 1] = torch.nan
    with pytest.raises(InputError, match="1 of 300 Gaussians hold NaN"):
        formats.write(cloud.replace(means=means), path)


def test_wrong_options(tmp_path):
    with pytest.raises(InputError, match="quality is 900"):
        encode(blobs(3), quality=900)
    with pytest.raises(InputError, match="9 layers"):
        encode(blobs(3), layers=9)


def test_sizes_add_up_to_the_file():
    data = encode(blobs(700, 2), layers=2)
    parts = container.sizes(data)
    assert sum(parts.values()) == len(data) and min(parts.values()) > 0
    assert parts["view-dependent colour"] > parts["opacity"]


def test_turns_give_the_same_ellipsoids_and_stay_in_range():
    random = np.random.default_rng(0)
    quats = random.normal(size=(500, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    prolate = random.random(500) < 0.5
    parts = rotation.to_symmetry_axis(quats, prolate)
    assert np.hypot(parts[:, 0], parts[:, 1]).max() < 0.5**0.5 + 1e-9
    assert np.abs(parts[:, 2]).max() < np.pi / 4 + 1e-9
    found = rotation.from_symmetry_axis(parts, prolate)
    axes = torch.tensor([[0.0, -1.0, -3.0]]).expand(500, 3).double()

    def covariances(values: np.ndarray) -> torch.Tensor:
        return GaussianCloud(axes, axes, torch.from_numpy(values), axes[:, 0], axes[:, None]).covariances

    torch.testing.assert_close(covariances(found), covariances(quats))
    torch.testing.assert_close(torch.from_numpy(rotation.nearest_equivalent(found, quats)), torch.from_numpy(quats))


def test_any_turns_decode_to_unit_quaternions():
    parts = np.random.default_rng(1).normal(size=(200, 3)) * 50
    found = rotation.from_symmetry_axis(parts, np.arange(200) % 2 == 0)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)


def test_details_make_single_gaussians_finer_and_others_coarser(tmp_path):
    cloud, detail = blobs(600, 1), np.zeros(600, np.int64)
    detail[:200], detail[200:400] = 3, -4
    data = encode(cloud, detail=detail)
    assert (data[11], encode(cloud)[11], encode(cloud, detail=0 * detail)) == (2, 0, encode(cloud))
    finest = decode(encode(cloud, quality=140, detail=detail), tmp_path)
    assert len(match(cloud, finest)) == 600
    found, usual = decode(data, tmp_path), decode(encode(cloud), tmp_path)

    def errors(found: GaussianCloud) -> torch.Tensor:
        gap = (found.means[None] - cloud.means[:, None]).norm(dim=2).min(1).values
        return torch.stack([gap[:200].mean(), gap[200:400].mean(), gap[400:].mean()])

    finer, coarser, same = errors(found) / errors(usual)
    assert finer < 0.25 and coarser > 2 and 0.7 < same < 1.4
    assert sum(container.sizes(data).values()) == len(data) and container.sizes(data)["detail"] > 0


def test_flipped_bytes_of_files_with_details_are_noticed(tmp_path):
    data = bytearray(encode(blobs(30, 0), detail=np.arange(30) % 8 - 4))
    for at in range(len(data)):
        data[at] ^= 1 << at % 8
        with pytest.raises(InputError, match="a.splatz"):
            decode(bytes(data), tmp_path / "a.splatz")
        data[at] ^= 1 << at % 8


def test_files_of_version_3_are_read_as_ever():
    """Written before there was a version 4: 40 Gaussians, SH degree 1, in two layers."""
    path = Path(__file__).parent / "version3.splatz"
    assert path.read_bytes()[8] == 3
    found = formats.read(path)
    assert len(found) == 40 and found.sh_degree == 1
    sums = [float(values.double().sum()) for values in (found.means, found.log_scales, found.sh)]
    assert sums == pytest.approx([1.8391805553110316, -518.8852052688599, 4.436327803879976], abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40_000), st.integers(0, 2**31), st.floats(0.05, 25), st.booleans())
def test_curves_come_near_the_counts_they_stand_for(count, seed, spread, split):
    random = np.random.default_rng(seed)
    values = np.rint(random.laplace(0, spread, (3, count)) + [[0], [2.0], [-1.0]]).astype(np.int64)
    symbols = np.minimum(entropy.zigzag(values), 223)
    counts = np.stack([*(np.bincount(row, minlength=256) for row in symbols), np.zeros(256, np.int64)])
    found = rans_tables.unpack_curves(rans_tables.pack_curves(counts, split), 4, split)
    assert found.sum(1).tolist() == [rans_tables.TOTAL] * 3 + [0]
    assert (found[counts > 0] > 0).all()
    if split and count > 5000:
        ideal = -(counts[:3] * np.log2(np.maximum(counts[:3], 1) / count)).sum()
        assert -(counts[:3] * np.log2(np.maximum(found[:3], 1) / rans_tables.TOTAL)).sum() < 1.03 * ideal + 2000


def test_few_symbols_need_no_large_tables():
    random = np.random.default_rng(0)
    values = entropy.zigzag(np.rint(random.laplace(0, 12, 3000)).astype(np.int64))
    bits = 8 * len(entropy.encode(values, np.arange(3000) % 7, 7)) / 3000
    assert bits < np.log2(2 * np.e * 12) + 0.3  # the entropy of a Laplace density, and little for tables
