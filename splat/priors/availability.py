"""Which priors this machine can load: packages and weights, looked for without loading either."""

import importlib.util
from dataclasses import dataclass

from splat.depth.monocular import INSTALL, NETWORKS

ENHANCERS = {
    "image to image": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "ControlNet tile": "lllyasviel/control_v11f1e_sd15_tile",
}
RECONSTRUCTIONS = {"DUSt3R": "dust3r", "MASt3R": "mast3r", "VGGT": "vggt"}


@dataclass(frozen=True)
class Prior:
    """Attributes:
    name: as people call it; setting: how a run asks for it.
    ready: whether it can be loaded without fetching anything.
    detail: what was found. remedy: the line that brings what is missing, or None.
    """

    name: str
    setting: str
    ready: bool
    detail: str
    remedy: str | None = None


def priors() -> list[Prior]:
    """All priors splat knows of, the one that needs nothing first."""
    result = [Prior("stereo between the photos", "--priors.dense", True, "needs no weights")]
    for name, network in NETWORKS.items():
        what = f"{network.weights}, {network.licence}"
        result.append(_network(f"depth by {name}", f"--priors.source {name}", network.package, network.weights, what))
    for name, weights in ENHANCERS.items():
        option = "--enhance.control" if name.startswith("Control") else "--enhance.model"
        result.append(_network(f"refinement, {name}", f"{option} {weights}", "diffusers", weights, weights))
    for name, package in RECONSTRUCTIONS.items():
        here = importlib.util.find_spec(package) is not None
        detail = "installed; an adapter calls it" if here else f"no package {package}"
        remedy = None if here else "see docs/sparse.md, Poses and points from a network"
        result.append(Prior(f"reconstruction by {name}", "--priors.reconstruct module:function", here, detail, remedy))
    return result


def _network(name: str, setting: str, package: str, weights: str, what: str) -> Prior:
    """A prior that needs ``package`` and its ``weights`` in the hub's cache."""
    if importlib.util.find_spec(package) is None:
        return Prior(name, setting, False, f"needs the package {package}", INSTALL)
    if not cached(weights):
        return Prior(name, setting, False, f"its weights ({what}) are not on this machine", f"hf download {weights}")
    return Prior(name, setting, True, f"package and weights ({what}) are here")


def cached(weights: str) -> bool:
    """Whether the hub's cache on this machine holds a file that says what ``weights`` are."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return False
    from huggingface_hub import try_to_load_from_cache

    names = ("config.json", "model_index.json")
    return any(isinstance(try_to_load_from_cache(weights, name), str) for name in names)
