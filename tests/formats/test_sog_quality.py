"""SOG files of lower quality: smaller, still the same ellipsoids, errors within the steps asked for."""

import numpy as np
import pytest

from splat.cloud_arrays import GaussianArrays
from splat.errors import InputError
from splat.formats.sog import quantizer
from splat.formats.sog import read as sog
from splat.formats.splatz.quantizer import ROUND_UP, QuantizationGrid, QuantizationSteps
from splat.formats.splatz.rows import CELLS, Rows


def some(count: int = 600, seed: int = 3) -> GaussianArrays:
    random = np.random.default_rng(seed)
    sh = random.normal(size=(count, 4, 3)) * np.array([0.5, 0.1, 0.1, 0.1])[:, None]
    shapes = (random.normal(size=(count, 3)), random.normal(size=(count, 3)) - 4, random.normal(size=(count, 4)))
    return GaussianArrays(*(part.astype(np.float32) for part in (*shapes, random.normal(size=count), sh)))


def covariances(table: GaussianArrays) -> np.ndarray:
    w, x, y, z = (table.quats / np.linalg.norm(table.quats, axis=1, keepdims=True)).astype(np.float64).T
    turn = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]).transpose(2, 0, 1)  # fmt: skip
    return turn @ (np.exp(2 * table.log_scales.astype(np.float64))[:, :, None] * turn.transpose(0, 2, 1))


def written(table: GaussianArrays, tmp_path, **options) -> tuple[int, GaussianArrays]:
    file = tmp_path / "a.sog"
    sog.write(table, file, **options)
    return file.stat().st_size, sog.read(file)


def test_a_lower_quality_is_smaller_and_errors_grow(tmp_path):
    table = some()
    found = [written(table, tmp_path, quality=quality, reorder=False) for quality in (30.0, 60.0, 90.0)]
    assert [size for size, _ in found] == sorted(size for size, _ in found)
    errors = [np.abs(read.means - table.means).mean() for _, read in found]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_ordered_axes_are_the_same_ellipsoids(tmp_path):
    table = some()
    assert np.allclose(covariances(quantizer.ordered(table)), covariances(table), rtol=1e-4, atol=1e-7)
    read = written(table, tmp_path, quality=100.0, reorder=False)[1]
    error = np.abs(covariances(read) - covariances(table)).max((1, 2))
    assert np.median(error / np.abs(covariances(table)).max((1, 2))) < 0.05


def test_steps_bound_the_errors(tmp_path):
    table = some()
    steps = QuantizationSteps(position=0.2, log_scale=0.1, colour=0.02, opacity=0.01)
    read = written(table, tmp_path, quality=steps, reorder=False)[1]
    ordered = quantizer.ordered(table)
    typical = np.exp(np.median(ordered.log_scales[:, 1]))
    assert np.abs(read.means - table.means).max() < 8 * 0.2 * typical  # the least visible have 2³ times the step
    assert np.median(np.abs(read.log_scales - ordered.log_scales)) < 0.1
    assert np.median(np.abs(read.sh[:, 0] - table.sh[:, 0])) * 0.2821 < 0.02


def test_codebooks_reach_from_the_least_value_to_just_beyond_the_largest():
    values = some().log_scales.astype(np.float64)
    codes, _ = quantizer._codebook(values, np.full(len(values), 0.1))
    assert np.allclose(np.diff(codes), 0.1) and codes[0] == values.min()
    assert codes[-2] < values.max() <= codes[-1] + 1e-9


def test_bytes_of_opacities_are_as_fine_as_the_steps_wish():
    table = quantizer.ordered(some())
    rows = Rows.of(table.with_sh_degree(0))
    for opacity in (0.002, 0.01, 0.1):
        steps = QuantizationSteps(opacity=opacity)
        grid = QuantizationGrid.fit(rows, steps)
        level = grid.levels(*rows.cells(), rows.detail).opacity.astype(np.float64)
        got = np.exp2(quantizer.coarse(table, steps, -np.ones(3), np.ones(3)).opacity) / 255
        wish = np.exp2(-level) / CELLS
        assert (got <= np.maximum(wish, 1 / 255)).all() and (got > np.minimum(wish / 2, 32 / 255)).all()


def test_view_dependent_colours_are_rounded_towards_zero():
    centers = np.random.default_rng(0).normal(size=(500, 9)) * 0.1
    values, codes = quantizer.rest_codes(centers, 0.02)
    assert (
        np.allclose(np.diff(values), 0.02) and (np.abs(values[codes] - centers) <= 0.02 * (1 - ROUND_UP) + 1e-9).all()
    )
    assert (values[codes][np.abs(centers) < 0.02 * (1 - ROUND_UP) - 1e-9] == 0).all()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_gaussians(tmp_path, count):
    table = some(2).select(slice(0, count))
    assert len(written(table, tmp_path, quality=50.0)[1]) == count


def test_equal_gaussians_have_codebooks_of_one(tmp_path):
    table = some(1).select(np.zeros(40, np.int64))
    read = written(table, tmp_path, quality=50.0)[1]
    assert np.allclose(read.sh[:, 0], table.sh[:, 0], atol=0.3)
    assert np.allclose(np.sort(read.log_scales), np.sort(table.log_scales), atol=0.4)


def test_nan_is_refused(tmp_path):
    table = some(3)
    table.means[1, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        sog.write(table, tmp_path / "a.sog", quality=50.0)
