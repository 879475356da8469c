"""GaussianCloud: shapes, row edits, similarity transforms (checked on covariances and on colours as seen)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splat import GaussianCloud, sh
from splat.cloud import matrix_to_quaternion, quaternion_multiply, quaternion_to_matrix


def random_cloud(n: int = 7, degree: int = 3, seed: int = 0) -> GaussianCloud:
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return GaussianCloud(
        draw(n, 3),
        draw(n, 3),
        draw(n, 4),
        draw(n),
        draw(n, (degree + 1) ** 2, 3),
        {"score": draw(n), "id": torch.arange(n)},
    )


def random_rotation(seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return quaternion_to_matrix(torch.randn(4, generator=g, dtype=torch.float64))


def test_wrong_shapes_are_refused():
    cloud = random_cloud()
    with pytest.raises(ValueError, match="quats has shape"):
        cloud.replace(quats=torch.zeros(7, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="SH coefficients"):
        cloud.replace(sh=torch.zeros(7, 5, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"extras\['w'\]"):
        cloud.replace(extras={"w": torch.zeros(3)})
    with pytest.raises(ValueError, match="float32"):
        cloud.replace(sh=cloud.sh.float())


def test_select_and_permute_move_every_column_together():
    cloud = random_cloud()
    mask = torch.tensor([True, False, True, True, False, False, True])
    assert cloud.select(mask).extras["id"].tolist() == [0, 2, 3, 6]
    order = torch.randperm(7)
    moved = cloud.permute(order)
    for name in ("means", "log_scales", "quats", "logit_opacities", "sh"):
        assert torch.equal(getattr(moved, name), getattr(cloud, name)[order])
    assert torch.equal(moved.extras["score"], cloud.extras["score"][order])


def test_concat_pads_sh_and_keeps_common_extras():
    low = random_cloud(3, 1).replace(extras={"id": torch.arange(3)})
    both = GaussianCloud.concat([low, random_cloud(4, 3)])
    assert len(both) == 7 and both.sh_degree == 3 and set(both.extras) == {"id"}
    assert torch.equal(both.sh[:3, :4], low.sh) and not both.sh[:3, 4:].any()


def test_size_counts_every_tensor():
    assert random_cloud(10, 3).nbytes == 10 * (59 * 8 + 8 + 8)


@given(st.integers(0, 1000), st.floats(0.01, 100), st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_transform_moves_covariance_and_turns_colours(seed, scale, degree):
    cloud, rotation = random_cloud(5, degree, seed), random_rotation(seed)
    translation = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    moved = cloud.transform(rotation, translation, scale)
    assert torch.allclose(moved.means, scale * cloud.means @ rotation.T + translation)
    assert torch.allclose(moved.covariances, scale**2 * rotation @ cloud.covariances @ rotation.T, rtol=1e-9)
    direction = torch.nn.functional.normalize(torch.randn(3, dtype=torch.float64), dim=0)
    before = torch.einsum("k,nkc->nc", sh.basis(direction, degree), cloud.sh)
    after = torch.einsum("k,nkc->nc", sh.basis(rotation @ direction, degree), moved.sh)
    assert torch.allclose(before, after, atol=1e-9)


def test_reflections_are_refused():
    with pytest.raises(ValueError, match="proper rotation"):
        random_cloud().transform(torch.diag(torch.tensor([1.0, 1.0, -1.0])))


def test_sh_basis_is_orthonormal_on_the_sphere():
    # Exact quadrature up to the needed degree 8: Gauss-Legendre in z times a uniform ring in phi.
    import numpy as np

    z, weight = np.polynomial.legendre.leggauss(10)
    phi = torch.arange(20, dtype=torch.float64) * (2 * torch.pi / 20)
    z, weight = torch.tensor(z), torch.tensor(weight)
    radius = (1 - z * z).sqrt()
    grid = torch.stack([radius[:, None] * phi.cos(), radius[:, None] * phi.sin(), z[:, None].expand(10, 20)], -1)
    values = sh.basis(grid, 4)
    gram = torch.einsum("z,zpi,zpj->ij", weight, values, values) * (2 * torch.pi / 20)
    assert torch.allclose(gram, torch.eye(25, dtype=torch.float64), atol=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_quaternions_and_matrices_agree(seed):
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 4, generator=g, dtype=torch.float64)
    product = quaternion_to_matrix(quaternion_multiply(a, b))
    assert torch.allclose(product, quaternion_to_matrix(a) @ quaternion_to_matrix(b))
    assert torch.allclose(quaternion_to_matrix(matrix_to_quaternion(product)), product)


def test_half_turns_survive_the_matrix_round_trip():
    for axis in range(3):
        quat = torch.zeros(4, dtype=torch.float64)
        quat[1 + axis] = 1
        assert torch.allclose(matrix_to_quaternion(quaternion_to_matrix(quat)).abs(), quat)


def test_empty_cloud():
    cloud = GaussianCloud.empty(2)
    assert len(cloud) == 0 and cloud.sh_degree == 2 and cloud.nbytes == 0
    assert len(cloud.transform(torch.eye(3))) == 0
    with pytest.raises(ValueError, match="no bounds"):
        cloud.bounds()


def test_finite_rows():
    cloud = random_cloud()
    sh_bad = cloud.sh.clone()
    sh_bad[3, 5, 1] = float("nan")
    assert cloud.replace(sh=sh_bad).finite().tolist() == [True, True, True, False, True, True, True]
