"""The wheel that ``pip install`` builds: complete, and usable without the source tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel's content in a folder. Set-up has compiled the core before, so that this takes seconds."""
    pytest.importorskip("scikit_build_core")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    scripts = Path(sys.executable).parent  # cmake and ninja of this environment
    environment = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = folder.glob("splat_toolkit-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "content")
    return folder / "content"


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(unpacked):
    sources = {path.relative_to(ROOT) for path in (ROOT / "splat").rglob("*.py")}
    packed = {path.relative_to(unpacked) for path in unpacked.rglob("*.py")}
    assert packed == sources
    assert {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")} == {"splat"}
    presets = {path.name for path in (ROOT / "configs").glob("*.toml")}
    assert presets and {path.name for path in (unpacked / "splat" / "_configs").glob("*.toml")} == presets
    headers = {path.relative_to(ROOT / "cuda") for path in (ROOT / "cuda").rglob("*.h")}
    assert headers <= {path.relative_to(unpacked / "splat" / "_cuda") for path in unpacked.rglob("*.h")}


@pytest.mark.slow
def test_wheel_works_without_the_source_tree(unpacked):
    """In an interpreter that sees the unpacked wheel only: the core loads, and presets are found inside the package."""
    script = f"""
import sys
sys.path.insert(0, {str(unpacked)!r})
import splat, splat.native.cpu_library, splat.cli
from splat.files import packaged_folder
from splat.training.config import config
assert splat.__file__.startswith({str(unpacked)!r})
assert splat.native.cpu_library.variants()
splat.native.cpu_library.library()
for folder in ("configs", "cuda"):
    assert packaged_folder(folder).is_relative_to({str(unpacked)!r})
assert config.presets()
sys.exit(splat.cli.main(["--version"]))
"""
    result = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("splat ")
