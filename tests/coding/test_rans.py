"""The range coder with everything it can use at once."""

import numpy as np

from splat.coding import rans


def test_values_that_hang_on_context_predecessor_and_parity_come_back():
    random = np.random.default_rng(0)
    contexts, values, last = np.arange(20_000) % 2, np.zeros(20_000, np.int64), 0
    for at, context in enumerate(contexts):
        scale = (3 + 12 * context) * (1 + 2 * (last > 20))
        values[at] = last = 2 * int(random.exponential(scale)) + int(random.random() < 0.1)
    data = rans.encode(values, contexts, 2)
    assert data[rans.HEAD.itemsize] == 1 | 2 | rans.CURVED | rans.SPLIT | rans.LONG  # each bit of the mode
    np.testing.assert_array_equal(rans.decode(data, len(values), contexts, 2), values)
