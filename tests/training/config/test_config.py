"""Settings survive TOML, refuse nonsense, are few and used, and presets hold differences only."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from splat.cli.train_help import descriptions
from splat.errors import InputError
from splat.training.config import config as settings
from splat.training.config import fields
from splat.training.config.config import DensifyConfig, McmcConfig, SceneConfig, TrainConfig
from splat.training.config.densify import STRATEGY_DEFAULTS

ROOT = Path(__file__).parents[3]


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
        (f"minutes = 1{'0' * 400}", "a number of 1329 bits is too large"),
        (f"background = [0, 0, -1{'0' * 400}]", "a number of 1329 bits is too large"),
        (f"[loss]\nssim = {1 << 63}", "a number of 64 bits is too large"),
        ("stepz = 3", "'stepz', which is no setting"),
        (r'"a\nb" = 3', r"'a\\nb', which is no setting"),
        (r'size = "1\n2\u001b"', r"'1\\n2\\x1b'"),
        (r'enhance.control = "a\nb"', r"--enhance.control 'a\\nb'"),
        ("steps = 1.5", "expected int"),
        ("steps = true", "expected int"),
        ('strategy = "best"', "strategy"),
        ("rates = 3", "expected a section"),
        ("[mcmc]\nnoise = 'loud'", "mcmc.noise"),
        ("background = [1, 2]", "background"),
        ("gaussians = 0", "gaussians is 0"),
        ("minutes = 0", "minutes is 0"),
        ("sh_degree = 5", "sh_degree"),
        ("[densify]\nstop = 1.5", "densify.stop is 1.5, expected a fraction of the whole, 0 to 1"),
        ("[densify]\ninit_opacity = 1", "densify.init_opacity is 1.0, expected an opacity between 0 and 1"),
        ("[densify]\nevery = 0", "densify.every is 0, expected more than 0"),
        ("[priors]\ndropout = 1", "priors.dropout is 1.0, expected 0 or more and less than 1"),
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


def sections() -> list[type]:
    """The dataclasses of all settings."""
    return [TrainConfig, *(type(value) for value in vars(TrainConfig()).values() if dataclasses.is_dataclass(value))]


def test_every_setting_is_documented():
    """The string below a field is its help."""
    for section in sections():
        assert set(descriptions(section)) == {item.name for item in dataclasses.fields(section)}, section


def test_every_number_and_choice_has_a_range():
    """Except the seed, which may be any integer."""
    for section in sections():
        for item in dataclasses.fields(section):
            if item.default is not dataclasses.MISSING:
                free = item.type in (bool, str, str | None) or item.name == "seed"
                assert (fields.RANGE in item.metadata) != free, f"{section.__name__}.{item.name}"


def used() -> set[str]:
    """Dotted names of the settings that a preset sets, a document names, or a test gives a value."""
    names = set()
    for name in settings.presets():
        names |= set(settings.differences(settings.preset(name), TrainConfig()))
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for path in texts:
        text = path.read_text()
        names |= {option.replace("-", "_") for option in re.findall(r"--([a-z_.-]+[a-z])", text)}
        names |= set(re.findall(r"\b([a-z_]+\.[a-z_]+)\b", text))
    owners = {section.__name__: prefix for prefix, section in named_sections()} | {"TrainConfig": ""}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).rpartition(".")[2]
                if called == "replace" and node.args:  # replace(config.enhance, rounds=2)
                    section = ast.unparse(node.args[0]).rpartition(".")[2] + "."
                    names |= {f"{section if section in owners.values() else ''}{word.arg}" for word in node.keywords}
                elif called in owners:
                    names |= {f"{owners[called]}{word.arg}" for word in node.keywords}
    return names


def named_sections() -> list[tuple[str, type]]:
    return [(f"{name}.", type(value)) for name, value in vars(TrainConfig()).items() if dataclasses.is_dataclass(value)]


def test_settings_are_few_and_each_is_used():
    names = set(settings.flatten(TrainConfig()))
    assert len(names) <= 100
    known = used()
    assert names - known - {f"scene.{name}" for name in known} == set()  # `--downscale` is `scene.downscale`


def test_what_is_not_set_is_the_strategys_own_and_is_written_as_a_number(tmp_path):
    config = TrainConfig(strategy="adc", densify=DensifyConfig(gradient=3e-4))
    assert config.densify.start is None
    full = settings.resolved(config)
    assert full.densify == dataclasses.replace(STRATEGY_DEFAULTS["adc"], gradient=3e-4)
    assert None not in vars(full.densify).values()
    settings.write(full, tmp_path / "config.toml")
    assert settings.read(tmp_path / "config.toml") == full == settings.resolved(full)
    assert settings.resolved(TrainConfig(densify=DensifyConfig(gradient=3e-4))).densify == STRATEGY_DEFAULTS["mcmc"]


def test_what_was_chosen_leaves_out_the_strategys_own():
    config = TrainConfig(strategy="taming", steps=10, densify=DensifyConfig(stop=0.5))
    for each in (config, settings.resolved(config)):
        assert settings.chosen(each) == {"strategy": "taming", "steps": 10, "densify.stop": 0.5}


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


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ('[priors]\nreconstruct = "evil:run"', "--priors.reconstruct evil:run"),
        ('[enhance]\nmodel = "a b"', "--enhance.model 'a b'"),
        ('[enhance]\ncontrol = "x"', "--enhance.control x"),
    ],
)
def test_a_file_names_no_code(tmp_path, text, option):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        settings.read(path)
    assert option in str(refused.value) and str(path) in str(refused.value)
    shown = settings.read_to_show(path)
    assert settings.read(path, named=shown) == shown  # whoever gives it again may have it
    with pytest.raises(InputError):
        settings.read(path, named=dataclasses.replace(shown, priors=settings.PriorsConfig(reconstruct="mine:run"),
                                                      enhance=settings.EnhanceConfig(model="mine")))  # fmt: skip
