"""A short slice of tools/sanitize.sh: every kernel under AddressSanitizer, at sizes around the vector widths."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_RUNTIME = 77


@pytest.mark.skipif(sys.platform != "linux", reason="sanitizers are preloaded as on Linux")
@pytest.mark.skipif(not all(map(shutil.which, ("g++", "cmake", "ninja"))), reason="needs g++, CMake and Ninja")
def test_kernels_stay_inside_their_memory():
    build = ROOT / "build" / "sanitize-address" / "out" / "splat" / "_lib"
    if not build.is_dir():
        pytest.skip("build the variant first: tools/sanitize.sh address")
    command = [ROOT / "tools" / "sanitize.sh", "address", "--sizes", "0,1,7,8,9,16,17"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode == NO_RUNTIME:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip().endswith("clean")
