#!/usr/bin/env bash
# Sets up .venv, then runs all tests, as many at a time as there are cores. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup.sh dev
exec .venv/bin/pytest --durations=10 --numprocesses "${WORKERS:-$(nproc 2>/dev/null || echo 2)}" --dist loadfile "$@"
