"""Every kernel under the sanitizers, and faults planted into a copy, which they must report.

Building with a sanitizer takes minutes: `.ci/sanitize` runs these tests, and says in SANITIZERS for which of them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_RUNTIME = 77
LOSS = "cpu/image_loss.cpp"
PLANTED = {
    "address": ("sums.resize(columns * bands);", "sums.resize(columns * bands - 1);", "heap-buffer-overflow"),
    "undefined": (
        "int64_t valid = height * width;",
        "int planted = static_cast<int>(height); planted += 2147483647; int64_t valid = height * width + 0 * planted;",
        "signed integer overflow",
    ),
    "thread": ("sums[tile] = Tile(", "sums[0] = Tile(", "data race"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="sanitizers are preloaded as on Linux"),
    pytest.mark.skipif(not all(map(shutil.which, ("g++", "cmake", "ninja"))), reason="needs g++, CMake and Ninja"),
]


@pytest.fixture(params=PLANTED)
def kind(request):
    if request.param not in os.environ.get("SANITIZERS", "").split():
        pytest.skip(f"a job of its own: SANITIZERS={request.param}, see .ci/sanitize")
    return request.param


def sanitized(root: Path, kind: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHON": sys.executable, "SPLAT_VARIANTS": "sse2"}
    command = ["sh", root / "tools" / "sanitize.sh", kind, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode == NO_RUNTIME:
        pytest.skip(done.stderr.strip())
    return done


@pytest.fixture
def copy(tmp_path):
    """A tree of its own, whose C++ core may be spoiled."""
    for name in ("cpu", "cuda", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    shutil.copy(ROOT / "CMakeLists.txt", tmp_path)
    for name in ("splat", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_a_planted_fault_is_reported(kind, copy):
    right, wrong, report = PLANTED[kind]
    text = (copy / LOSS).read_text()
    assert text.count(right) == 1
    (copy / LOSS).write_text(text.replace(right, wrong))
    done = sanitized(copy, kind, "--sizes", "1001")
    assert done.returncode == 1
    assert report in done.stderr and "image_loss.cpp" in done.stderr, done.stderr[-4000:]
