"""Old names of settings and presets: read from files and the command line, said once, refused where they must be."""

import dataclasses
import warnings

import pytest
import tomli_w
import torch
from support.scenes import ring_scene, train_in_pieces

from splat.errors import InputError
from splat.runs.train import train
from splat.training.config import config as settings
from splat.training.config import old_names
from splat.training.config.config import TrainConfig
from splat.training.config.densify import STRATEGIES, STRATEGY_DEFAULTS, DensifyConfig

OLD_FILE = """
steps = 700
strategy = "adc"
[mcmc]
start = 0.5
min_opacity = 0.1
growth = 0.05
noise = 1e5
[adc]
start = 0.0167
gradient = 3e-4
reset_every = 0.1
prune_size = 0.1
[turbo]
trust = 0.9
every = 7
[dilate]
least = 9
[prune]
share = 0.25
views = 24
[smooth]
every = 100
"""


def read(text: str, tmp_path) -> tuple[TrainConfig, list[str]]:
    """The settings in ``text``, and what was said about them."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = settings.read(path)
    return config, [str(each.message) for each in caught]


def test_an_old_file_means_what_it_meant_and_is_said_to_be_old_once(tmp_path):
    config, said = read(OLD_FILE, tmp_path)
    assert settings.differences(config, TrainConfig()) == {
        "steps": 700,
        "strategy": "adc",
        "mcmc.noise": 1e5,
        "densify.start": 0.0167,
        "densify.gradient": 3e-4,
        "adc.reset_every": 0.1,
        "dilate.min_pixels": 9,
        "prune.fraction": 0.25,
    }
    assert len(said) == 1 and "adc.start is now densify.start" in said[0] and "and 1 more" in said[0]
    assert read(settings.to_toml(config), tmp_path) == (config, [])  # what is written has the new names


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_section_of_the_strategy_in_use_counts_and_no_other(strategy, tmp_path):
    sections = "\n".join(f"[{name}]\nstop = 0.{number + 1}" for number, name in enumerate(STRATEGIES))
    config, _ = read(f'strategy = "{strategy}"\n{sections}', tmp_path)
    assert config.densify.stop == (STRATEGIES.index(strategy) + 1) / 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mcmc]\ngrowth = 0.1", "mcmc.growth to 0.1, but it is always 0.05 now"),
        ("[prune]\nviews = 'many'", "prune.views to many"),
        ("[prune]\nshare = 0.1\nfraction = 0.2", "both prune.share and prune.fraction"),
        ("[turbo]\nnonsense = 1", "'turbo', which is no setting"),
        ("[prune]\nshare = 2", "prune.fraction is 2.0"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_sentence(text, said, tmp_path):
    with pytest.raises(InputError, match=said) as caught:
        read(text, tmp_path)
    assert "\n" not in str(caught.value)


def test_every_new_name_is_a_setting_and_no_old_one_is():
    names = settings.flatten(TrainConfig())
    assert set(old_names.NAMES.values()) <= set(names)
    assert not (set(old_names.NAMES) | set(old_names.CONSTANTS)) & set(names)
    assert not set(old_names.NAMES) & set(old_names.CONSTANTS)
    assert set(old_names.PRESETS.values()) <= set(settings.presets())
    assert set(STRATEGY_DEFAULTS) == set(STRATEGIES)


def test_constants_have_the_values_that_the_code_uses():
    from splat.training.hooks import appearance_features, coarse_to_fine, ges, mip_filter, sensitivity_pruning
    from splat.training.per_photo import bilateral_grid
    from splat.training.strategies import adc, mcmc, taming, turbo

    elsewhere = ("wild.", "enhance.")  # constants of the priors, which are above this floor
    assert {name: value for name, value in old_names.CONSTANTS.items() if not name.startswith(elsewhere)} == {
        "mcmc.growth": mcmc.GROWTH,
        "adc.prune_size": adc.PRUNE_SIZE,
        "adc.reset_opacity": adc.RESET_OPACITY,
        "taming.views": taming.VIEWS,
        "taming.opacity_steps": taming.OPACITY_STEPS,
        "turbo.colour": turbo.COLOUR,
        "turbo.colour_chance": turbo.COLOUR_CHANCE,
        "turbo.visited": turbo.VISITED,
        "turbo.trust": turbo.TRUST,
        "coarse.count": coarse_to_fine.CAP_POWER,
        "ges.reset_every": ges.RESET_EVERY,
        "ges.reset_until": ges.RESET_UNTIL,
        "ges.shape_rate": ges.SHAPE_RATE,
        "appearance.features_rate": appearance_features.RATE,
        "prune.views": sensitivity_pruning.VIEWS,
        "smooth.every": mip_filter.EVERY,
        "appearance.grid_rate": bilateral_grid.RATE,
        "appearance.grid_smoothness": bilateral_grid.SMOOTHNESS,
    }


def test_options_of_old():
    given = ["scene", "--adc.gradient", "3e-4", "--prune.share=0.5", "--mcmc.every", "9", "--coarse.count", "0.5"]
    with pytest.warns(UserWarning, match="the command line uses old names.*--adc.gradient is now --densify.gradient"):
        found = old_names.arguments(given, "adc")
    assert found == ["scene", "--densify.gradient", "3e-4", "--prune.fraction", "0.5"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert old_names.arguments(given, None) == ["scene", "--prune.fraction", "0.5"]
        today = ["--taming.first", "0.1", "--steps=3", "--pose.refine"]
        assert old_names.arguments(today, "adc") == today
    with pytest.raises(InputError, match="the command line sets coarse.count to 1"):
        old_names.arguments(["--coarse.count", "1"], None)
    with pytest.raises(InputError, match="--prune.share needs a value"):
        old_names.arguments(["--prune.share"], "adc")


def test_a_preset_of_old():
    with pytest.warns(UserWarning, match="uneven is called casual-photos now"):
        assert settings.preset("uneven") == settings.preset("casual-photos")


def without_none(values: dict) -> dict:
    plain = {key: without_none(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in plain.items() if value is not None}


def test_a_run_whose_settings_have_old_names_is_resumed_to_the_same_result(tmp_path):
    """Its config.toml as it was: a section for each strategy, full of numbers, and the constants of today."""
    scene, run = ring_scene(size=24), tmp_path / "run"
    densify = DensifyConfig(every=5, gradient=1e-5)
    config = TrainConfig(steps=20, gaussians=100, sh_degree=0, strategy="adc", checkpoint_seconds=0, densify=densify)
    whole = train(scene, config).cloud
    train_in_pieces(scene, config, run, (7,))
    values = without_none(dataclasses.asdict(settings.read(run / "config.toml")))
    values["adc"] |= values.pop("densify") | {"prune_size": 0.1, "reset_opacity": 0.01}
    values["mcmc"] |= {"start": 0.0167, "stop": 0.83, "min_opacity": 0.005, "growth": 0.05}
    values["turbo"] = {"trust": 0.5, "every": 50}
    old = tomli_w.dumps(values)
    (run / "config.toml").write_text(old.replace("steps = 20", "steps = 21"))
    with pytest.raises(InputError, match=r"other settings than those given \(steps\)"), pytest.warns(UserWarning):
        train(scene, config, run, resume=True)
    (run / "config.toml").write_text(old)
    with pytest.warns(UserWarning, match="old names"):
        resumed = train(scene, config, run, resume=True).cloud
    assert torch.equal(whole.means, resumed.means) and torch.equal(whole.sh, resumed.sh)
