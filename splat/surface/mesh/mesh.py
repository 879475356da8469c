"""`Mesh`: vertices, faces, colours; cleaning and simplifying them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from splat.errors import InputError


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: (V, 3) float64, world units.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        colours: (V, 3) uint8 RGB, or None.
        normals: (V, 3) float64 unit normals, or None where they follow from the faces.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    colours: NDArray[np.uint8] | None = None
    normals: NDArray[np.float64] | None = None

    @property
    def areas(self) -> NDArray[np.float64]:
        """(F,) areas of the faces."""
        return 0.5 * np.linalg.norm(self._crosses(), axis=1)

    @property
    def vertex_normals(self) -> NDArray[np.float64]:
        """(V, 3) unit normals, its own or the mean of the adjacent faces by area; 0 where there is none."""
        if self.normals is not None:
            return self.normals
        crosses = self._crosses()
        total = np.stack(
            [np.bincount(self.faces.ravel(), np.repeat(crosses[:, axis], 3), len(self.vertices)) for axis in range(3)],
            1,
        )
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)

    def _crosses(self) -> NDArray[np.float64]:
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        return np.cross(b - a, c - a)

    def keep(self, faces: NDArray[np.bool_]) -> "Mesh":
        """The faces of the mask (F,), with the vertices they use."""
        kept = self.faces[faces]
        used = np.zeros(len(self.vertices), bool)
        used[kept] = True
        number = np.cumsum(used) - 1
        colours = None if self.colours is None else self.colours[used]
        normals = None if self.normals is None else self.normals[used]
        return Mesh(self.vertices[used], number[kept], colours, normals)

    @property
    def watertight(self) -> bool:
        """Whether every edge belongs to exactly two faces."""
        return len(self.faces) > 0 and bool((_edge_uses(self.faces) == 2).all())


def _edge_uses(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return np.unique(edges[:, 0] * (int(faces.max(initial=0)) + 1) + edges[:, 1], return_counts=True)[1]


def pieces(mesh: Mesh) -> NDArray[np.int64]:
    """(F,) number of the connected piece each face belongs to, from 0; faces that share a vertex are connected."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(mesh.vertices)
    a, b, c = mesh.faces.T
    links = coo_matrix((np.ones(2 * len(a), np.int8), (np.r_[a, b], np.r_[b, c])), shape=(count, count))
    labels = connected_components(links, directed=False)[1][a]
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


def drop_small_pieces(
    mesh: Mesh, least: float, most: int | None = None, areas: NDArray[np.float64] | None = None
) -> tuple[Mesh, int]:
    """Without the pieces of less area than ``least``; at most ``most`` pieces, largest first.

    Args:
        areas: (F,) of the faces, where they are not to be measured in world units.

    The largest piece stays in any case. Returns the mesh and how many pieces were dropped.
    """
    if not len(mesh.faces):
        return mesh, 0
    labels = pieces(mesh)
    total = np.bincount(labels, mesh.areas if areas is None else areas)
    keep = total >= min(least, total.max())
    if most is not None:
        keep &= np.argsort(np.argsort(-total, kind="stable"), kind="stable") < most
    return mesh.keep(keep[labels]), int((~keep).sum())


def simplify(mesh: Mesh, faces: int) -> Mesh:
    """About ``faces`` faces by quadric edge collapse (Garland and Heckbert 1997); colours of the nearest old vertices.

    Raises InputError where fast-simplification is missing.
    """
    if len(mesh.faces) <= faces:
        return mesh
    try:
        import fast_simplification
    except ImportError as error:
        raise InputError(
            "simplifying meshes needs fast-simplification, which is not installed; "
            "install it with: pip install 'splat-toolkit[mesh]'"
        ) from error
    middle = mesh.vertices.mean(0)  # single precision inside
    points, triangles = fast_simplification.simplify(
        (mesh.vertices - middle).astype(np.float32), mesh.faces.astype(np.int32), target_count=faces
    )
    simpler = Mesh(points.astype(np.float64) + middle, triangles.astype(np.int64))
    simpler = simpler.keep(simpler.areas > 0)
    if mesh.colours is None:
        return simpler
    from scipy.spatial import cKDTree

    return replace(simpler, colours=mesh.colours[cKDTree(mesh.vertices).query(simpler.vertices)[1]])
