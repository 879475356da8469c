"""Settings survive TOML, refuse nonsense, and presets hold differences only."""

import dataclasses

import pytest

from splat.errors import InputError
from splat.training.config import config as settings
from splat.training.config.config import McmcConfig, SceneConfig, TrainConfig


def test_round_trip_through_toml(tmp_path):
    config = TrainConfig(
        steps=123,
        minutes=2.5,
        strategy="adc",
        background=(0.25, 0.5, 1.0),
        random_background=True,
        scene=SceneConfig(path='C:\\a "quoted" façade\n', downscale=2.0),
        mcmc=McmcConfig(noise=1e4),
    )
    settings.write(config, tmp_path / "config.toml")
    assert settings.read(tmp_path / "config.toml") == config


def test_a_file_changes_only_what_it_names(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text('steps = 10\n[rates]\nmeans = 1\n[scene]\npath = "x"\n')
    config = settings.read(path)
    changed = settings.differences(config, TrainConfig())
    assert changed == {"steps": 10, "rates.means": 1.0, "scene.path": "x"}
    assert isinstance(config.rates.means, float)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = ", "not valid TOML"),
        ("stepz = 3", "'stepz', which is no setting"),
        ("steps = 1.5", "expected int"),
        ("steps = true", "expected int"),
        ('strategy = "best"', "strategy"),
        ("rates = 3", "expected a section"),
        ("[mcmc]\nnoise = 'loud'", "mcmc.noise"),
        ("background = [1, 2]", "background"),
        ("gaussians = 0", "gaussians is 0"),
        ("minutes = 0", "minutes is 0"),
        ("sh_degree = 5", "sh_degree"),
        ("[mcmc]\nstop = 1.5", "mcmc.stop"),
        ("[adc]\ninit_opacity = 1", "adc.init_opacity"),
        ("[rates]\nmeans = nan", "rates.means"),
        ("[loss]\ndepth = -1", "loss.depth"),
        ("[dilate]\nstride = 0", "dilate.stride"),
        ("[coarse]\nstart = 2\n[wild]\noccluders = true", "wild.occluders needs whole photos"),
        ("[dilate]\nstride = 2\n[priors]\ndepth = 0.1", "priors.depth needs whole photos"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(tmp_path, text, said):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        settings.read(path)
    assert "\n" not in str(caught.value)


def test_every_setting_is_documented():
    """tyro shows the string below a field as its help."""
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(settings))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for place, item in enumerate(node.body):
                if isinstance(item, ast.AnnAssign):
                    after = node.body[place + 1] if place + 1 < len(node.body) else None
                    assert isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant), item.target.id


def lines(path) -> int:
    """Number of settings a TOML file makes."""
    text = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    return sum("=" in line for line in text)


def test_presets_hold_differences_only(capsys):
    base = TrainConfig()
    assert settings.presets()
    for name in settings.presets():
        path = settings.packaged_folder("configs") / f"{name}.toml"
        config = settings.preset(name)
        changed = settings.differences(config, base)
        print(name, changed)
        assert lines(path) == len(changed), f"{name} repeats defaults"
    with pytest.raises(InputError, match="no preset 'nope'"):
        settings.preset("nope")


def test_replacing_a_field_checks_again():
    with pytest.raises(InputError, match="steps"):
        dataclasses.replace(TrainConfig(), steps=-1)
