"""Stages from other papers: adaptive degrees, codebooks, VecTree, NeuralGS, each against its definition."""

import numpy as np
import pytest
import torch

from splat.cloud import GaussianCloud
from splat.compression.methods import neuralgs as networks_method
from splat.compression.methods.adaptive_sh import adapt_degrees, sh_degrees
from splat.compression.methods.vector_quantization import CodebookRounding, compact3d, fit_codebooks, sub_vectors
from splat.errors import InputError
from splat.formats import codebooks, neuralgs, vectree


def blobs(count: int, degree: int = 2, seed: int = 0) -> GaussianCloud:
    g = torch.Generator().manual_seed(seed)
    return GaussianCloud(
        torch.rand(count, 3, generator=g), torch.randn(count, 3, generator=g) * 0.3 - 4,
        torch.randn(count, 4, generator=g), torch.randn(count, generator=g),
        0.3 * torch.randn(count, (degree + 1) ** 2, 3, generator=g),
    )  # fmt: skip


def nearest(cloud: GaussianCloud, found: GaussianCloud) -> torch.Tensor:
    rows = torch.cdist(cloud.means.double(), found.means.double()).argmin(1)
    assert len(rows.unique()) == len(cloud) == len(found)
    return rows


def test_least_degree_by_energy_over_the_sphere():
    cloud = blobs(4, 2)
    sh = torch.zeros_like(cloud.sh)
    sh[1, 2, 0] = 1.0  # degree 1
    sh[2, 7, 1] = 1.0  # degree 2
    sh[3, 7, 1] = 0.01 * (4 * torch.pi) ** 0.5 * 0.9  # just below a tolerance of 0.01
    cloud = cloud.replace(sh=sh)
    assert sh_degrees(cloud, torch.ones(4), 0.01).tolist() == [0, 1, 2, 0]
    assert sh_degrees(cloud, torch.tensor([1.0, 1, 1, 1]), 0.008).tolist() == [0, 1, 2, 2]
    found = adapt_degrees(cloud, torch.ones(4), 0.01)
    torch.testing.assert_close(found.sh[:3], cloud.sh[:3])
    assert not found.sh[3].any()


@pytest.mark.parametrize("groups", [compact3d, sub_vectors])
def test_codebooks_hold_few_values_and_survive_coding(groups):
    cloud = blobs(900, 1)
    chosen = [codebooks.Group(g.tensor, g.first, g.last, min(g.size, 32)) for g in groups(cloud)]
    books = fit_codebooks(cloud, chosen)
    found = codebooks.quantized(cloud, books)
    for group in chosen:
        flat = getattr(found, group.tensor).reshape(900, -1)[:, group.first : group.last]
        assert len(flat.unique(dim=0)) <= 32
    columns = {(g.tensor, i) for g in chosen for i in range(g.first, g.last)}
    assert len(columns) == 3 + 4 + 12  # every column of sizes, rotations and colours once
    streams = codebooks.pack_books(books)
    again = codebooks.quantized(cloud, codebooks.unpack_books(streams, chosen, 900))
    torch.testing.assert_close(again.sh, found.sh, atol=2e-3, rtol=1e-3)
    assert sum(map(len, streams)) < 900 * 19


def test_training_moves_entries_to_the_means_of_their_gaussians():
    cloud = blobs(200, 0)
    books = fit_codebooks(cloud, [codebooks.Group("sh", 0, 3, 4)])
    shown = CodebookRounding(books).rounded(cloud)
    for number in range(4):
        rows = books[0].index == number
        torch.testing.assert_close(shown.sh[rows, 0], cloud.sh[rows, 0].mean(0).expand(int(rows.sum()), 3))


def test_vectree_keeps_the_significant_and_shares_the_rest():
    cloud = blobs(800, 1)
    weights = torch.arange(800.0)
    data = vectree.pack(cloud, weights, fraction=0.5, codes=16)
    found = vectree.unpack(data)
    found = found.select(nearest(cloud, found))
    assert (found.means - cloud.means).abs().max() < 1e-4
    torch.testing.assert_close(found.log_scales, cloud.log_scales, atol=4e-3, rtol=1e-3)
    torch.testing.assert_close(found.sh[400:], cloud.sh[400:], atol=1e-3, rtol=1e-3)
    assert len(found.sh[:400].reshape(400, -1).unique(dim=0)) <= 16
    assert len(data) < len(vectree.pack(cloud, weights, fraction=0.0))
    assert len(vectree.unpack(vectree.pack(GaussianCloud.empty(1), torch.zeros(0)))) == 0
    assert len(vectree.unpack(vectree.pack(blobs(1), torch.ones(1)))) == 1


def test_networks_learn_attributes_that_depend_on_place():
    cloud = blobs(600, 1)
    x = cloud.means[:, :1]
    cloud = cloud.replace(
        sh=cloud.sh * 0 + torch.sin(3 * x)[:, :, None], log_scales=-4 + 0 * cloud.log_scales + x,
        quats=torch.tensor([[1.0, 0, 0, 0]]).expand(600, 4).clone(), logit_opacities=x[:, 0],
    )  # fmt: skip
    settings = neuralgs.NetworkSettings(clusters=2, hidden=24, layers=3, steps=250, batch=128, rate=1e-2)
    data = neuralgs.pack(networks_method.fit(cloud, torch.ones(600), settings))
    found = neuralgs.unpack(data)
    found = found.select(nearest(cloud, found))
    assert (found.sh - cloud.sh).square().mean() < 0.02 * cloud.sh.var()
    assert (found.logit_opacities - cloud.logit_opacities).square().mean() < 0.05 * cloud.logit_opacities.var()
    assert len(np.frombuffer(data, np.uint8)) < 600 * 4 * 23


def test_codebook_files_hold_what_the_codebooks_say():
    cloud = blobs(500, 1)
    books = fit_codebooks(cloud, [codebooks.Group(g.tensor, g.first, g.last, 16) for g in compact3d(cloud)])
    found = codebooks.unpack(codebooks.pack(cloud, books))
    found, expected = found.select(nearest(cloud, found)), codebooks.quantized(cloud, books)
    for name in ("log_scales", "quats", "sh"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=4e-3, rtol=1e-3)
    assert (found.means - cloud.means).abs().max() < 1e-4
    assert (found.opacities - cloud.opacities).abs().max() < 0.6 / 255


@pytest.mark.parametrize("module", [vectree, codebooks, neuralgs])
def test_damage_to_files_of_methods_is_noticed(module, tmp_path):
    cloud = blobs(40, 0)
    if module is vectree:
        data = vectree.pack(cloud, torch.ones(40), codes=4)
    elif module is codebooks:
        data = codebooks.pack(cloud, fit_codebooks(cloud, [codebooks.Group("sh", 0, 3, 4)]))
    else:
        settings = neuralgs.NetworkSettings(clusters=1, hidden=4, layers=2, steps=2)
        data = neuralgs.pack(networks_method.fit(cloud, torch.ones(40), settings))
    file = tmp_path / "a.bin"
    for at in range(0, len(data), max(1, len(data) // 60)):
        file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(InputError, match="a.bin"):
            module.read(file)
        file.write_bytes(data[:at])
        with pytest.raises(InputError, match="a.bin"):
            module.read(file)
