"""Every setting of a training run: frozen dataclasses, their checks, and their TOML form.

Durations that belong to the schedule are fractions of the whole run (0 = first step, 1 = last), so that a run of
3 000 steps, of 30 000, or of ten minutes goes through the same phases. This module needs no PyTorch.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from splat.errors import InputError
from splat.files import packaged_folder, write_text
from splat.training.config.methods import (
    AverageConfig,
    BatchConfig,
    CoarseConfig,
    DilateConfig,
    GesConfig,
    PruneConfig,
    SmoothConfig,
    TamingConfig,
    TurboConfig,
)
from splat.training.config.photos import AppearanceConfig, PoseConfig, SceneConfig, SurfaceConfig
from splat.training.config.priors import DEPTHS, EnhanceConfig, PriorsConfig, WildConfig
from splat.training.config.size_limit import gaussians_within

STRATEGIES = ("mcmc", "adc", "taming", "turbo")
BACKENDS = ("auto", "cpu", "cuda", "gsplat", "reference")


@dataclass(frozen=True)
class RatesConfig:
    """Learning rates of Adam (β 0.9 and 0.999, ε 1e-15).

    Chosen for runs of a few thousand steps: the published ones, for 30 000 steps, are half as large, and a fifth for
    positions (preset `full`).
    """

    means: float = 8e-4
    """Positions at the start, in scene extents."""
    means_final: float = 8e-6
    """Positions at the end, in scene extents; log-linear in between."""
    sh_dc: float = 5e-3
    """Base colour."""
    sh_rest: float = 2.5e-4
    """View-dependent colour."""
    opacities: float = 0.05
    """Logit opacities."""
    scales: float = 1e-2
    """Log scales."""
    quats: float = 2e-3
    """Rotations."""
    final: float = 1.0
    """Factor all rates but the positions' reach at the end, log-linear; 1 keeps them constant."""
    visible_only: bool = False
    """Update only the Gaussians the current photo sees (faster on big scenes, slightly worse)."""


@dataclass(frozen=True)
class LossConfig:
    """What is minimised."""

    ssim: float = 0.2
    """Weight λ of the structural term: (1 − λ)·L1 + λ·(1 − SSIM)."""
    depth: float = 0.0
    """Weight of the disparity error at the scene's sparse points, times the scene extent; 0 is off, 0.01 is usual."""


@dataclass(frozen=True)
class AdcConfig:
    """Adaptive density control (Kerbl et al. 2023, §5): grow where gradients are large, prune what is transparent.

    Weights on opacity and size let useless Gaussians fade, where the original resets all opacities now and then (preset
    `adc-2023`); with few photos that keeps the result from fitting them too closely.
    """

    start: float = 0.05
    """Fraction of the run at which growing starts."""
    stop: float = 0.85
    """Fraction of the run at which growing and pruning stop."""
    every: int = 100
    """Steps between two changes."""
    gradient: float = 2e-4
    """Mean screen gradient (normalised device units) above which a Gaussian is cloned or split."""
    absolute_gradient: bool = False
    """Judge by the sum of absolute per-pixel gradients (Ye et al. 2024); then a threshold of 8e-4 is usual."""
    small: float = 0.01
    """Size, in scene extents, up to which a Gaussian is cloned; larger ones are split."""
    split_factor: float = 1.6
    """Children of a split are smaller than their parent by this factor."""
    prune_opacity: float = 0.005
    """Gaussians less opaque than this are removed."""
    prune_size: float = 0.1
    """Gaussians larger than this many scene extents are removed once opacities have been reset for the first time."""
    reset_every: float = 0.0
    """Fraction of the run between two opacity resets; 0 never resets."""
    reset_opacity: float = 0.01
    """Opacity to which a reset lowers all Gaussians above it."""
    init_opacity: float = 0.1
    """Opacity of the first Gaussians."""
    init_scale: float = 1.0
    """Size of the first Gaussians, in distances to the nearest points."""
    opacity_weight: float = 0.01
    """Weight of the mean opacity in the loss."""
    scale_weight: float = 0.01
    """Weight of the mean size, in scene extents, in the loss."""


@dataclass(frozen=True)
class McmcConfig:
    """Gaussian splatting as Markov chain Monte Carlo (Kheradmand et al. 2024): relocate dead Gaussians, add noise."""

    start: float = 0.0167
    """Fraction of the run at which relocation and growing start."""
    stop: float = 0.83
    """Fraction of the run at which relocation and growing stop."""
    every: int = 100
    """Steps between two changes."""
    growth: float = 0.05
    """Largest growth at one change, as a fraction of the count."""
    full: float = 0.5
    """Fraction of the run by which the budget of Gaussians is used; growth goes faster than `growth` if needed."""
    min_opacity: float = 0.005
    """Gaussians less opaque than this are relocated."""
    noise: float = 5e5
    """Strength of the exploration noise on positions: times their learning rate, both in scene extents."""
    init_opacity: float = 0.5
    """Opacity of the first Gaussians."""
    init_scale: float = 1.0
    """Size of the first Gaussians, in distances to the nearest points."""
    opacity_weight: float = 0.01
    """Weight of the mean opacity in the loss."""
    scale_weight: float = 0.01
    """Weight of the mean size, in scene extents, in the loss."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    steps: int = 7000
    """Number of steps, one photo each."""
    minutes: float | None = None
    """Finish within this many minutes instead of after a number of steps; reading the scene does not count."""
    gaussians: int = 150_000
    """Largest number of Gaussians; never exceeded."""
    gaussians_per_root_step: float = 0.0
    """Use no more Gaussians than this times the root of the number of steps (in a run by time: of those expected), and
    no more than two for each pixel of a photo; 0 does not care. The options --gaussians and --size switch it off."""
    size: str | None = None
    """Largest cloud.ply, such as 12MB: also limits the number of Gaussians (for smaller files see splat compress)."""
    seed: int = 0
    """Same seed, same result (on the same machine)."""
    strategy: Literal["mcmc", "adc", "taming", "turbo"] = "mcmc"
    """How Gaussians are added and removed."""
    backend: Literal["auto", "cpu", "cuda", "gsplat", "reference"] = "auto"
    """What draws the pictures."""
    sh_degree: int = 3
    """Highest band of the view-dependent colour, 0 to 4."""
    sh_every: float = 1000 / 7000
    """Fraction of the run between two additions of a colour band."""
    antialiased: bool = False
    """Scale opacities by what the pixel blur adds (Yu et al. 2024, §4.2)."""
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Red, green and blue behind the scene."""
    random_background: bool = False
    """Draw each training picture on a random colour, so that nothing stays transparent."""
    eval_every: float = 0.25
    """Fraction of the run between two evaluations on the held-out photos; 0 evaluates only at the end."""
    checkpoint_seconds: float = 60.0
    """Time between two checkpoints; 0 writes one only at the end and when interrupted."""

    scene: SceneConfig = field(default_factory=SceneConfig)
    """Photos."""
    rates: RatesConfig = field(default_factory=RatesConfig)
    """Learning rates."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Loss."""
    mcmc: McmcConfig = field(default_factory=McmcConfig)
    """The strategy `mcmc`."""
    adc: AdcConfig = field(default_factory=AdcConfig)
    """The strategy `adc`."""
    taming: TamingConfig = field(default_factory=TamingConfig)
    """The strategy `taming`."""
    turbo: TurboConfig = field(default_factory=TurboConfig)
    """The strategy `turbo`."""
    coarse: CoarseConfig = field(default_factory=CoarseConfig)
    """Small pictures first."""
    dilate: DilateConfig = field(default_factory=DilateConfig)
    """A grid of pixels instead of all."""
    prune: PruneConfig = field(default_factory=PruneConfig)
    """Removal of what matters least."""
    ges: GesConfig = field(default_factory=GesConfig)
    """Generalised exponential Gaussians."""
    smooth: SmoothConfig = field(default_factory=SmoothConfig)
    """Limit of sharpness."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """More photos per step."""
    average: AverageConfig = field(default_factory=AverageConfig)
    """Mean over the end of the run."""
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    """Colour correction."""
    pose: PoseConfig = field(default_factory=PoseConfig)
    """Pose refinement."""
    surface: SurfaceConfig = field(default_factory=SurfaceConfig)
    """Surface regularisers."""
    priors: PriorsConfig = field(default_factory=PriorsConfig)
    """Help for scenes of few photos."""
    wild: WildConfig = field(default_factory=WildConfig)
    """Photos that strangers took."""
    enhance: EnhanceConfig = field(default_factory=EnhanceConfig)
    """Refinement by a generative prior."""

    def __post_init__(self) -> None:
        check(self)


# ---- checks ----

_POSITIVE = {
    *("steps", "gaussians", "mcmc.every", "adc.every", "mcmc.init_scale", "adc.init_scale", "rates.means"),
    *("rates.means_final", "rates.final", "adc.split_factor", "scene.cache_megabytes"),
    *("taming.every", "taming.views", "taming.split_factor", "taming.init_scale", "coarse.start", "smooth.every"),
    *("turbo.every", "turbo.split_factor", "turbo.init_scale", "prune.times", "prune.views", "batch.size"),
    *("dilate.stride", "enhance.inference_steps", "enhance.rounds", "enhance.between"),
}
_FRACTIONS = {
    "surface.start",
    *("sh_every", "eval_every", "mcmc.start", "mcmc.stop", "mcmc.full", "adc.start", "adc.stop", "adc.reset_every"),
    *("loss.ssim", "priors.virtual", "priors.floaters", "priors.proximity", "priors.partner"),
    *("taming.start", "taming.stop", "turbo.start", "turbo.stop", "turbo.colour_chance", "coarse.until"),
    *("ges.reset_every", "ges.reset_until", "prune.share", "prune.start", "prune.stop", "batch.start"),
    *("average.start", "ges.frequency", "coarse.count", "dilate.until", "taming.first", "taming.recycle"),
    *("wild.occluder_start", "enhance.strength", "enhance.start", "enhance.share"),
}
_OPACITIES = {
    *("mcmc.init_opacity", "adc.init_opacity", "mcmc.min_opacity", "adc.prune_opacity", "adc.reset_opacity"),
    *("taming.init_opacity", "taming.prune_opacity", "turbo.init_opacity", "turbo.prune_opacity"),
}


def check(config: TrainConfig) -> None:
    """Raise InputError naming the first setting that makes no sense."""
    for name, value in flatten(config).items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and value != value:
            raise InputError(f"the setting {name} is not a number; give it a value")
        if name in _POSITIVE and not value > 0:
            raise InputError(f"the setting {name} is {value}, expected more than 0")
        if name in _FRACTIONS and not 0 <= value <= 1:
            raise InputError(f"the setting {name} is {value}, expected a fraction of the whole, 0 to 1")
        if name in _OPACITIES and not 0 < value < 1:
            raise InputError(f"the setting {name} is {value}, expected an opacity between 0 and 1")
        if number and name != "seed" and value < 0:
            raise InputError(f"the setting {name} is {value}, expected 0 or more")
    for name in ("minutes", "scene.downscale", "scene.max_side"):
        value = flatten(config).get(name)
        if value is not None and not value > 0:
            raise InputError(f"the setting {name} is {value}, expected more than 0")
    if config.sh_degree > 4:
        raise InputError(f"the setting sh_degree is {config.sh_degree}, expected 0 to 4")
    for name, allowed in (("strategy", STRATEGIES), ("backend", BACKENDS), ("priors.source", DEPTHS)):
        value = flatten(config)[name]
        if value not in allowed:
            raise InputError(f"the setting {name} is '{value}', expected one of {', '.join(allowed)}")
    if config.priors.dropout >= 1:
        raise InputError(f"the setting priors.dropout is {config.priors.dropout}, expected less than 1")
    if config.coarse.start > 1 or config.dilate.stride > 1:  # those keep something for every pixel of a photo
        for name in ("priors.depth", "priors.normal", "wild.occluders"):
            if flatten(config)[name]:
                raise InputError(f"the setting {name} needs whole photos; switch it, or coarse and dilate, off")
    if config.size is not None and gaussians_within(config.size, config.sh_degree, config.appearance.features) < 1:
        raise InputError(f"the setting size is '{config.size}', not enough for one Gaussian; give more")
    if len(config.background) != 3 or not all(0 <= channel <= 1 for channel in config.background):
        raise InputError(f"the setting background is {config.background}, expected three numbers from 0 to 1")


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


def read(path: str | Path, base: TrainConfig | None = None) -> TrainConfig:
    """``base`` (by default: the defaults) with the settings of the TOML file ``path``. Raises InputError."""
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the settings {path}: {error.strerror or error}; check the path") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid TOML ({error}); correct it, or start from a file in configs/") from error
    return merged(base or TrainConfig(), values, str(path))


def merged(config: Any, values: dict[str, Any], source: str, prefix: str = "") -> Any:
    """``config`` with the nested ``values``; errors say that ``source`` sets them. Raises InputError."""
    hints = typing.get_type_hints(type(config))
    changes = {}
    for key, value in values.items():
        if key not in hints:
            raise InputError(f"{source} sets '{prefix}{key}', which is no setting; expected one of {', '.join(hints)}")
        current = getattr(config, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                raise InputError(f"{source} sets '{prefix}{key}' to {value!r}, expected a section [{prefix}{key}]")
            changes[key] = merged(current, value, source, f"{prefix}{key}.")
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
    """The preset ``name``: the defaults with the differences its file lists."""
    if name not in presets():
        raise InputError(f"there is no preset '{name}'; expected one of {', '.join(presets())}")
    return read(packaged_folder("configs") / f"{name}.toml")
