"""Names that settings and presets had before, and what became of them.

They are read wherever settings are: presets, the config.toml of a run, the command line. What has a new name is said
once; what became a constant is accepted with the value of the constant and refused with any other.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from splat.errors import InputError
from splat.training.config.densify import STRATEGIES

PRESETS = {"uneven": "casual-photos"}

_SHARED = (
    *("start", "stop", "every", "gradient", "small", "split_factor", "prune_opacity", "init_opacity", "init_scale"),
    *("opacity_weight", "scale_weight"),
)
NAMES = {f"{strategy}.{name}": f"densify.{name}" for strategy in STRATEGIES for name in _SHARED} | {
    "mcmc.min_opacity": "densify.prune_opacity",
    "dilate.least": "dilate.min_pixels",
    "prune.share": "prune.fraction",
    "priors.guess": "priors.completion",
    "priors.virtual": "priors.pseudo_views",
    "priors.partner": "priors.co_regularization",
    "enhance.share": "enhance.fraction",
}
"""Old name: new name. Those of a strategy count only in runs with that strategy, as they did."""

CONSTANTS = {
    "mcmc.growth": 0.05,
    "adc.prune_size": 0.1,
    "adc.reset_opacity": 0.01,
    "taming.views": 10,
    "taming.opacity_steps": 2000,
    "turbo.colour": 0.01,
    "turbo.colour_chance": 0.2,
    "turbo.visited": 0.25,
    "turbo.trust": 0.5,
    "coarse.count": 0.5,
    "ges.reset_every": 0.025,
    "ges.reset_until": 0.375,
    "prune.views": 24,
    "smooth.every": 100,
    "ges.shape_rate": 1e-3,
    "appearance.features_rate": 2e-3,
    "appearance.grid_rate": 2e-3,
    "appearance.grid_smoothness": 10.0,
    "wild.occluder_start": 0.2,
    "enhance.between": 4,
    "enhance.inference_steps": 50,
    "enhance.weight": 1.0,
}
"""Old name: the value that it always has now."""


def preset(name: str) -> str:
    """Today's name of the preset ``name``."""
    if name in PRESETS:
        warnings.warn(f"the preset {name} is called {PRESETS[name]} now; the old name still works", stacklevel=2)
    return PRESETS.get(name, name)


def renamed(values: dict[str, Any], strategy: Any, source: str) -> dict[str, Any]:
    """Nested ``values`` under today's names; what ``strategy`` does not use of other strategies' old ones is left out.

    Args:
        source: who sets them, for messages.

    Raises InputError for a constant with another value, and for a setting under two names.
    """
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    said = {}
    for section, key, value in _settings(values):
        name = f"{section}.{key}"
        if name not in NAMES and name not in CONSTANTS:
            continue
        del result[section][key]
        if _counts(section, strategy) and not _is_constant(name, value, source):
            said[name] = NAMES[name]
            new_section, new_key = NAMES[name].split(".")
            if new_key in result.setdefault(new_section, {}):
                raise InputError(f"{source} sets both {name} and {NAMES[name]}, its name now; keep the latter")
            result[new_section][new_key] = value
    for section in [section for section, kept in result.items() if kept == {} and values.get(section)]:
        del result[section]
    _say(said, source)
    return result


def arguments(given: Sequence[str], strategy: str | None) -> list[str]:
    """The command line ``given`` with today's names of its options; as `renamed`.

    While the strategy is not known (None) the options of strategies are left out and nothing is said.
    """
    result, said, at = [], {}, 0
    while at < len(given):
        option, equals, value = given[at].partition("=")
        name = option.removeprefix("--").replace("-", "_")
        at += 1
        if not option.startswith("--") or (name not in NAMES and name not in CONSTANTS):
            result.append(given[at - 1])
            continue
        if not equals:
            if at == len(given):
                raise InputError(f"the option {option} needs a value")
            value, at = given[at], at + 1
        if _counts(name.split(".")[0], strategy) and not _is_constant(name, value, "the command line"):
            said[option] = f"--{NAMES[name].replace('_', '-')}"
            result += [said[option], value]
    if strategy is not None:
        _say(said, "the command line")
    return result


def _settings(values: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for section, items in values.items():
        if isinstance(items, dict):
            yield from ((section, key, value) for key, value in items.items())


def _counts(section: str, strategy: Any) -> bool:
    return section not in STRATEGIES or section == strategy


def _is_constant(name: str, value: Any, source: str) -> bool:
    """Whether ``name`` became a constant. Raises InputError if ``value`` is another one."""
    if name not in CONSTANTS:
        return False
    try:
        same = float(value) == CONSTANTS[name]
    except (TypeError, ValueError):
        same = False
    if not same:
        raise InputError(
            f"{source} sets {name} to {value}, but it is always {CONSTANTS[name]} now and no longer a setting;"
            " leave it out"
        )
    return True


def _say(said: dict[str, str], source: str) -> None:
    """Warn, once per source, of the old names in ``said`` and of what they are called now."""
    if said:
        first = ", ".join(f"{old} is now {new}" for old, new in list(said.items())[:3])
        more = f", and {len(said) - 3} more" if len(said) > 3 else ""
        warnings.warn(f"{source} uses old names of settings, which still work: {first}{more}", stacklevel=3)
