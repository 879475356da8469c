#!/usr/bin/env bash
# Makes .venv beside pyproject.toml with splat in it; `setup.sh dev` adds what tests and development need.
# Done already? Then it returns at once.
# PYTHON=python3.12 chooses the interpreter, CXX=clang++ the compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '[setup] %s\n' "$*"; }
fail() { printf '[setup] %s\n' "$*" >&2; exit 1; }

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    fail "no Python 3.10 or newer found; install one (Debian, Ubuntu: sudo apt install python3 python3-venv) or set PYTHON"
}

# What the environment was made from: a change of any of it makes it anew. Of the Python files the names alone: they are
# used from this folder directly, but the installation lists the modules one by one.
fingerprint() {
    { "$python" --version; pwd; find splat -name '*.py' | LC_ALL=C sort; find pyproject.toml constraints.txt CMakeLists.txt tools/setup.sh cpu cuda/math -type f |
        LC_ALL=C sort | xargs cat; } | cksum
}

python=$(find_python)
print=$(fingerprint)
extras=video,viewer
stamps=(.venv/.setup-run)
if [ "${1:-}" = dev ]; then
    extras=video,viewer,dev
    stamps=(.venv/.setup-dev .venv/.setup-run) # what runs the tests runs the demo too
fi
if [ "$(cat "${stamps[0]}" 2>/dev/null)" = "$print" ]; then
    exit 0
fi

command -v "${CXX:-c++}" >/dev/null ||
    fail "no C++ compiler (${CXX:-c++}) found; install one (Debian, Ubuntu: sudo apt install g++) or set CXX"

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv ||
        fail "$python cannot make virtual environments; install that part (Debian, Ubuntu: sudo apt install python3-venv)"
fi
rm -f .venv/.setup-*
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

if [ "$(uname)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then
    # The CPU build is a tenth of the size of the default one. Where its index cannot be reached, pip goes on without.
    say "installing PyTorch (CPU build: there is no NVIDIA GPU)"
    pip install --quiet --no-deps --retries 1 --timeout 30 --constraint constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu torch
fi
say "installing build tools"
pip install --quiet 'scikit-build-core>=0.10' 'cmake>=3.20' 'ninja>=1.11'
say "compiling the C++ core and installing splat with its dependencies"
pip install --quiet --no-build-isolation --constraint constraints.txt --editable ".[$extras]"
for stamp in "${stamps[@]}"; do echo "$print" >"$stamp"; done
say "done"
