"""Positions in an octree come back as the cells they lie in."""

import numpy as np
import pytest

from splat.coding import octree


@pytest.mark.parametrize("levels", [6, 14, 21])
@pytest.mark.parametrize("count", [1, 7, 900])
def test_positions_come_back_in_their_cells(count, levels):
    means = np.random.default_rng(count).normal(size=(count, 3)) * [3, 1, 0.2] + [50, -4, 0]
    grid = octree.quantize_positions(means, levels)
    cells = octree.read_positions(iter(grid.streams), count, grid.depth, levels)
    np.testing.assert_array_equal(cells, grid.cells)
    low, side = means.min(0), (means.max(0) - means.min(0)).max()
    expected = np.floor((means[grid.order] - low) / max(side, 1e-12) * 2**levels).clip(0, 2**levels - 1)
    assert np.abs(cells - expected).max() <= 1  # rounding at the edges of cells
    assert grid.depth > 0 or count < 900
