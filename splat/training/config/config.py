"""Every setting of a training run: frozen dataclasses, their checks, and their TOML form.

Durations that belong to the schedule are fractions of the whole run (0 = first step, 1 = last), so that a run of
3 000 steps, of 30 000, or of ten minutes goes through the same phases. This module needs no PyTorch.
"""

import dataclasses
import shlex
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from splat.errors import InputError
from splat.files import packaged_folder, write_text
from splat.text import printable
from splat.training.config import old_names
from splat.training.config.densify import (
    STRATEGIES,
    AdcConfig,
    DensifyConfig,
    McmcConfig,
    TamingConfig,
    resolve,
)
from splat.training.config.fields import CODE, check_ranges, choice, colour, fraction, non_negative, positive, whole
from splat.training.config.methods import (
    AverageConfig,
    BatchConfig,
    CoarseConfig,
    DilateConfig,
    GesConfig,
    PruneConfig,
    SmoothConfig,
)
from splat.training.config.photos import AppearanceConfig, PoseConfig, SceneConfig, SurfaceConfig
from splat.training.config.priors import EnhanceConfig, PriorsConfig, WildConfig
from splat.training.config.size_limit import gaussians_within

BACKENDS = ("auto", "cpu", "cuda", "gsplat", "reference")


@dataclass(frozen=True)
class RatesConfig:
    """Of Adam (β 0.9 and 0.999, ε 1e-15), for runs of a few thousand steps; preset full has the published ones."""

    means: float = positive(8e-4)
    """Positions at the start, in scene extents."""
    means_final: float = positive(8e-6)
    """Positions at the end, in scene extents; log-linear in between."""
    sh_dc: float = non_negative(5e-3)
    """Base colour (spherical harmonics of degree 0)."""
    sh_rest: float = non_negative(2.5e-4)
    """View-dependent colour (higher degrees)."""
    opacities: float = non_negative(0.05)
    """Logit opacities."""
    scales: float = non_negative(1e-2)
    """Log scales."""
    quats: float = non_negative(2e-3)
    """Rotations."""
    final: float = positive(1.0)
    """Factor that all rates but the positions' reach at the end, log-linear; 1 keeps them constant."""
    visible_only: bool = False
    """Update only the Gaussians visible in the current photo (faster on big scenes, slightly worse)."""


@dataclass(frozen=True)
class LossConfig:
    """Compares renders with photos."""

    ssim: float = fraction(0.2)
    """Weight λ of the structural term: (1 − λ)·L1 + λ·(1 − SSIM)."""
    depth: float | None = non_negative(None)
    """Weight of the disparity error at measured depth or else at the sparse points (Kerbl et al. 2024), times the scene
    extent. By default 1 where depth maps lie beside the photos, else 0; 0.01 is usual for sparse points."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    steps: int = positive(7000)
    """Number of steps, one photo each."""
    minutes: float | None = positive(None)
    """Finish within this many minutes instead of after a number of steps; reading the scene does not count."""
    gaussians: int = positive(150_000)
    """Largest number of Gaussians, such as 60k or 1.5M; never exceeded."""
    gaussians_per_root_step: float = non_negative(0.0)
    """Cap Gaussians at this × √steps and at two per pixel; 0 disables both limits, and so do --gaussians and --size."""
    size: str | None = None
    """Largest cloud.ply, such as 12MB: also limits the number of Gaussians (for smaller files see splat compress)."""
    seed: int = 0
    """Seed of all random numbers: same seed, same result (on the same machine)."""
    strategy: Literal["mcmc", "adc", "taming", "turbo"] = choice("mcmc", STRATEGIES)
    """How Gaussians are added and removed: mcmc (3DGS as Markov Chain Monte Carlo), adc (3DGS), taming (Taming 3DGS) or
    turbo (Turbo-GS)."""
    backend: Literal["auto", "cpu", "cuda", "gsplat", "reference"] = choice("auto", BACKENDS)
    """Rasterizer; auto takes the GPU if there is one that works."""
    sh_degree: int = whole(3, 0, 4)
    """Degree of the spherical harmonics of view-dependent colour, 0 to 4."""
    sh_every: float = fraction(1000 / 7000)
    """Fraction of the run between two increases of the degree."""
    antialiased: bool = False
    """2D Mip filter: scale opacities by what the pixel blur adds (Mip-Splatting, Yu et al. 2024, §4.2)."""
    background: tuple[float, float, float] = colour((0.0, 0.0, 0.0))
    """Red, green and blue of the background, 0 to 1."""
    random_background: bool = False
    """Use a random background in each step, so that nothing stays transparent."""
    eval_every: float = fraction(0.25)
    """Fraction of the run between two evaluations on the held-out photos; 0 evaluates only at the end."""
    checkpoint_seconds: float = non_negative(60.0)
    """Seconds between two checkpoints; 0 writes one only at the end and when interrupted."""

    # The text under a section is its title in `splat train --help-all`.
    scene: SceneConfig = field(default_factory=SceneConfig)
    """Photos"""
    rates: RatesConfig = field(default_factory=RatesConfig)
    """Learning rates"""
    loss: LossConfig = field(default_factory=LossConfig)
    """Photometric and depth loss (3DGS)"""
    densify: DensifyConfig = field(default_factory=DensifyConfig)
    """Densification and pruning, for every strategy"""
    mcmc: McmcConfig = field(default_factory=McmcConfig)
    """Strategy mcmc (3DGS as Markov Chain Monte Carlo)"""
    adc: AdcConfig = field(default_factory=AdcConfig)
    """Strategy adc: adaptive density control (3DGS)"""
    taming: TamingConfig = field(default_factory=TamingConfig)
    """Strategy taming: score-guided densification (Taming 3DGS)"""
    coarse: CoarseConfig = field(default_factory=CoarseConfig)
    """Coarse-to-fine resolution (DashGaussian)"""
    dilate: DilateConfig = field(default_factory=DilateConfig)
    """Dilated rendering (Turbo-GS)"""
    prune: PruneConfig = field(default_factory=PruneConfig)
    """Sensitivity pruning (Speedy-Splat)"""
    ges: GesConfig = field(default_factory=GesConfig)
    """Generalised exponential Gaussians (GES)"""
    smooth: SmoothConfig = field(default_factory=SmoothConfig)
    """3D smoothing filter (Mip-Splatting)"""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """Batches of photos"""
    average: AverageConfig = field(default_factory=AverageConfig)
    """Weight averaging (SWA)"""
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    """Per-photo appearance: exposure, bilateral grid, features"""
    pose: PoseConfig = field(default_factory=PoseConfig)
    """Pose refinement"""
    surface: SurfaceConfig = field(default_factory=SurfaceConfig)
    """Surface regularisers (2DGS, PGSR)"""
    priors: PriorsConfig = field(default_factory=PriorsConfig)
    """Sparse-view priors"""
    wild: WildConfig = field(default_factory=WildConfig)
    """Photos in the wild: transient occluders"""
    enhance: EnhanceConfig = field(default_factory=EnhanceConfig)
    """Diffusion prior: iterative refinement (LM-Gaussian)"""

    def __post_init__(self) -> None:
        check(self)


# ---- checks ----


def check(config: TrainConfig) -> None:
    """Raise InputError naming the first setting that makes no sense, by itself or beside the others."""
    check_ranges(config)
    if config.coarse.start > 1 or config.dilate.stride > 1:  # those keep something for every pixel of a photo
        values = flatten(config)
        for name in ("priors.depth", "priors.normal", "wild.occluders"):
            if values[name]:
                raise InputError(f"the setting {name} needs whole photos; switch it, or coarse and dilate, off")
    if config.size is not None and gaussians_within(config.size, config.sh_degree, config.appearance.features) < 1:
        raise InputError(f"the setting size is '{config.size}', not enough for one Gaussian; give more")


def resolved(config: TrainConfig) -> TrainConfig:
    """``config`` with numbers for all that its strategy uses of `densify`: what is written beside the results."""
    return dataclasses.replace(config, densify=resolve(config.strategy, config.densify))


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name, in the order of the dataclass."""
    out: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            out |= flatten(value, f"{prefix}{item.name}.")
        else:
            out[prefix + item.name] = value
    return out


def differences(config: TrainConfig, base: TrainConfig) -> dict[str, Any]:
    """The settings of ``config`` that differ from those of ``base``, by dotted name."""
    before = flatten(base)
    return {name: value for name, value in flatten(config).items() if value != before[name]}


def chosen(config: TrainConfig) -> dict[str, Any]:
    """The settings of ``config``, by dotted name, that are not the defaults, nor its strategy's own."""
    usual = resolved(TrainConfig(strategy=config.strategy))
    named = {} if config.strategy == TrainConfig().strategy else {"strategy": config.strategy}
    return named | differences(resolved(config), usual)


# ---- TOML ----


def to_toml(config: TrainConfig) -> str:
    """All settings as TOML; those that are None are left out."""
    import tomli_w

    return tomli_w.dumps(_without_none(dataclasses.asdict(config)))


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }


def write(config: TrainConfig, path: str | Path) -> None:
    """Write all settings to the TOML file ``path``."""
    write_text(path, to_toml(config))


def read(path: str | Path, base: TrainConfig | None = None, named: TrainConfig | None = None) -> TrainConfig:
    """``base`` (by default: the defaults) with the settings of the TOML file ``path``, for a run.

    Raises InputError, also where the file names code to run (`fields.code`) that ``named``, the settings which the user
    gave, does not name: a file from a stranger must not choose what is imported.
    """
    config = read_to_show(path, base)
    check_code(config, named or TrainConfig(), str(path))
    return config


def check_code(config: TrainConfig, named: TrainConfig, source: str) -> None:
    """Raise InputError where ``config``, read from ``source``, names code to run that ``named`` does not name."""
    given = flatten(named)
    for name, value in code_named(config).items():
        if value != given[name]:
            option = f"--{name.replace('_', '-')} {shlex.quote(printable(value))}"
            raise InputError(
                f"{source} names code to run ({name} = {value!r}), which is taken from the command line or from Python "
                f"only; if you trust it, give it again: {option}"
            )


def code_named(config: TrainConfig) -> dict[str, str]:
    """The settings of ``config`` that name code to import or load, by dotted name; none that is empty."""
    return {
        f"{section.name}.{item.name}": value
        for section in dataclasses.fields(config)
        if dataclasses.is_dataclass(part := getattr(config, section.name))
        for item in dataclasses.fields(part)
        if CODE in item.metadata and (value := getattr(part, item.name))
    }


def read_to_show(path: str | Path, base: TrainConfig | None = None) -> TrainConfig:
    """As `read`, code included: to show or to compare, never to run. Raises InputError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the settings {path}: {error.strerror or error}; check the path") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid TOML ({error}); correct it, or start from a file in configs/") from error
    return parsed(text, str(path), base)


def parsed(text: str, source: str, base: TrainConfig | None = None) -> TrainConfig:
    """As `read_to_show`, from TOML itself. Raises InputError; it names ``source``."""
    try:
        values = toml_values(text)
    except ValueError as error:
        raise InputError(
            f"{source} is not valid TOML ({error}); correct it, or start from a file in configs/"
        ) from error
    try:
        return merged(base or TrainConfig(), values, source)
    except InputError as error:  # names and texts of the file may hold line ends and codes of terminals
        raise InputError(printable(str(error))) from error


def toml_values(text: str) -> dict[str, Any]:
    """What TOML says, nested. Raises ValueError, also for whole numbers beyond 64 bits, which TOML does not have."""
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    try:
        values = tomllib.loads(text)
        _check_numbers(values)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return values


def _check_numbers(value: Any) -> None:
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(item)
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"a number of {value.bit_length()} bits is too large")


def merged(config: TrainConfig, values: dict[str, Any], source: str) -> TrainConfig:
    """``config`` with the nested ``values``, whose names may be old ones. Raises InputError; it names ``source``."""
    return _merged(config, old_names.renamed(values, values.get("strategy", config.strategy), source), source)


def _merged(config: Any, values: dict[str, Any], source: str, prefix: str = "") -> Any:
    hints = typing.get_type_hints(type(config))
    changes = {}
    for key, value in values.items():
        if key not in hints:
            raise InputError(f"{source} sets '{prefix}{key}', which is no setting; expected one of {', '.join(hints)}")
        current = getattr(config, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                raise InputError(f"{source} sets '{prefix}{key}' to {value!r}, expected a section [{prefix}{key}]")
            changes[key] = _merged(current, value, source, f"{prefix}{key}.")
        else:
            changes[key] = _convert(value, hints[key], f"{source} sets '{prefix}{key}' to {value!r}")
    return dataclasses.replace(config, **changes)


def _convert(value: Any, hint: Any, what: str) -> Any:
    """``value`` from TOML as the type ``hint`` of its field."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        if typing.get_origin(option) is tuple and isinstance(value, list):
            if all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value):
                return tuple(float(item) for item in value)
        elif typing.get_origin(option) is Literal and value in typing.get_args(option):
            return value
        elif option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        elif isinstance(option, type) and type(value) is option:
            return value
    names = " or ".join(getattr(option, "__name__", str(option)) for option in options if option is not type(None))
    raise InputError(f"{what}, expected {names}")


# ---- presets ----


def presets() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(path.stem for path in packaged_folder("configs").glob("*.toml"))


def preset(name: str) -> TrainConfig:
    """The preset ``name``: the defaults with the differences its file lists. Old names are said to be old."""
    name = old_names.preset(name)
    if name not in presets():
        raise InputError(f"there is no preset '{name}'; expected one of {', '.join(presets())}")
    return read(packaged_folder("configs") / f"{name}.toml")
