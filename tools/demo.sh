#!/usr/bin/env bash
# Sets up .venv, then makes the demo scene in ./demo, trains it and shows the result. Arguments go to `splat demo`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$here/tools/setup.sh"
exec "$here/.venv/bin/splat" demo "$@"
