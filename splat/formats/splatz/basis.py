"""The basis of view-dependent colour in `.splatz`: principal components, stored as signed bytes."""

import numpy as np

# Rows: brightness and two colour differences of RGB, an orthonormal basis.
COLOUR = np.array([[3**-0.5] * 3, [0.5**0.5, 0, -(0.5**0.5)], [6**-0.5, -2 * 6**-0.5, 6**-0.5]])
LARGE = 1024  # Gaussians above which a basis of its own pays for view-dependent colour


def empty_basis() -> np.ndarray:
    """(0, 0) float32: no view-dependent colour."""
    return np.zeros((0, 0), np.float32)


def fit_basis(sh: np.ndarray, exponents: np.ndarray, step: float) -> np.ndarray:
    """(J, D) directions in which the higher bands of ``sh`` (N, K, 3) vary, D = 3 (K − 1), rounded to bytes.

    Args:
        exponents: (N,) powers of two on ``step``, the step of view-dependent colour. Directions that no code reaches
            are left out at the end.
    """
    if sh.shape[1] == 1:
        return empty_basis()
    rest = (sh[:, 1:] @ COLOUR.T).reshape(len(sh), -1)
    if len(rest) < LARGE:
        basis = np.eye(rest.shape[1])
    else:
        weight = np.exp2(-2.0 * exponents)
        _, vectors = np.linalg.eigh((rest * weight[:, None]).T @ rest / weight.sum())
        basis = vectors.T[::-1]
    reach = (np.abs(rest @ basis.T) * np.exp2(-exponents)[:, None]).max(0) > 0.6 * step
    basis = basis[: int(np.flatnonzero(reach)[-1]) + 1 if reach.any() else 0]
    return unpack_basis(pack_basis(basis), len(basis), rest.shape[1])


def pack_basis(basis: np.ndarray) -> bytes:
    """A float32 scale and signed bytes, row by row."""
    scale = (np.abs(basis).max(1) / 127 if len(basis) else np.zeros(0)).astype("<f4")
    return scale.tobytes() + np.rint(basis / np.maximum(scale, 1e-30)[:, None]).astype(np.int8).tobytes()


def unpack_basis(data: bytes, components: int, width: int) -> np.ndarray:
    """(``components``, ``width``) float32, the inverse of `pack_basis`."""
    scale = np.frombuffer(data, "<f4", components)
    rows = np.frombuffer(data, np.int8, components * width, 4 * components).reshape(components, width)
    with np.errstate(over="ignore", invalid="ignore"):  # of a damaged file
        return rows * scale[:, None]
