#!/usr/bin/env bash
# Checks and measures the CUDA backend on this machine's GPU in nine minutes, most valuable evidence first.
#
#     OUT=check bash tools/gpu_check.sh          # then: cp check/benchmarks/*.json benchmarks/
#     DRY=1 bash tools/gpu_check.sh              # a rehearsal without a GPU: emulated kernels, tiny sizes
#
# OUT: folder for what is found (default: a new one). SCENE: photos with cameras for whole training runs (default: a
# scene that the computer draws). TOTAL: seconds at most (540; ten times as many with DRY=1). PYTHON: interpreter (default: .venv's, else python3).
# Each part has a limit of its own and writes as it goes, so whatever ends the run early leaves what was found.
# Exits with 1 when a part failed.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
BEGIN=$SECONDS
PATIENCE=$([ "${DRY:-}" = 1 ] && echo 10 || echo 1) # the emulation is built first, maybe on a busy machine
TOTAL=${TOTAL:-$((540 * PATIENCE))}
OUT=${OUT:-$(mktemp -d)}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
WORK=$(mktemp -d)
export PYTHONPATH="$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 CUDA_MODULE_LOADING=LAZY
export XDG_CACHE_HOME="$WORK" # an empty cache of kernels, as on a fresh machine
failed=()

finish() {
    "$PYTHON" tools/gpu_check.py results --out "$OUT" | sed 's/^/results: /'
    rm -rf "$WORK"
}
trap finish EXIT

say() { echo "[$((SECONDS - BEGIN))s] $*" | tee -a "$OUT/log.txt"; }

# run NAME LIMIT COMMAND…: at most LIMIT seconds and never beyond the whole; output goes to NAME.txt
run() {
    local name=$1 limit=$(($2 * PATIENCE)) code=0 room=$((TOTAL - (SECONDS - BEGIN) - 5))
    shift 2
    if ((room < limit)); then limit=$room; fi
    if ((limit < 5)); then
        say "$name: no time left"
        failed+=("$name")
        return
    fi
    timeout -k 3 "$limit" "$@" >>"$OUT/$name.txt" 2>&1 || code=$?
    say "$name: $( ((code == 0)) && echo right || echo "WRONG (exit code $code)")"
    if ((code != 0)); then
        failed+=("$name")
        tail -n 5 "$OUT/$name.txt"
    fi
}

part() { run "$1" "$2" "$PYTHON" tools/gpu_check.py "$1" --out "$OUT" ${SCENE:+--scene "$SCENE"}; }

sanitizer() { run "$1" "$2" compute-sanitizer --tool "$1" --error-exitcode 99 "$PYTHON" tools/gpu_check.py draw --out "$WORK"; }

part facts 30
part startup 60
part agreement 60
part lists 30
part stages 40
part training 150
part sizes 120
part repeatable 30
part draw 30
if [ "${DRY:-}" != 1 ] && command -v compute-sanitizer >/dev/null; then
    sanitizer memcheck 50
    sanitizer racecheck 45
    sanitizer initcheck 30
elif [ "${DRY:-}" != 1 ]; then
    say "compute-sanitizer is not installed: kernels were not checked for stray accesses"
fi
part viewer 30
part photos 20

if ((${#failed[@]})); then
    say "failed: ${failed[*]}"
    exit 1
fi
say "all right"
