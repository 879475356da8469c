#!/bin/sh
# Builds the C++ core with a sanitizer and runs every kernel under it, with sizes around the vector widths.
#
#   tools/sanitize.sh address|undefined|thread [--sizes 0,1,7,8,9,16,17,100000]
#
# Needs g++ with its sanitizer runtimes, CMake and Ninja. The build stays in build/sanitize-<name>; the installed core is
# not touched. Exit code: 0 clean, 1 a report was printed, 77 no runtime of this sanitizer here.
set -eu
kind=${1:-}
case "$kind" in
    address) runtime=libasan.so ;;
    undefined) runtime=libubsan.so ;;
    thread) runtime=libtsan.so ;;
    *) echo "usage: tools/sanitize.sh address|undefined|thread [options of tools/sanitize_driver.py]" >&2; exit 2 ;;
esac
shift
root=$(cd "$(dirname "$0")/.." && pwd)
build="$root/build/sanitize-$kind"
mkdir -p "$root/build"
python=${PYTHON:-python}
preload=$(${CXX:-g++} -print-file-name=$runtime)
if [ ! -f "$preload" ]; then
    echo "no $runtime beside ${CXX:-g++}: install the compiler's sanitizer runtimes" >&2
    exit 77
fi
if [ "$kind" = thread ] && command -v setarch > /dev/null; then
    fixed="setarch -R"  # ThreadSanitizer of older compilers needs addresses that are not randomised
else
    fixed=""
fi
cmake -S "$root" -B "$build" -G Ninja -DSPLAT_SANITIZE=$kind -DCMAKE_INSTALL_PREFIX="$build/out" \
    -DSPLAT_VARIANTS="${SPLAT_VARIANTS:-sse2;avx2}" > "$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
cmake --build "$build" > "$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
cmake --install "$build" > /dev/null
# Python's own allocations are not freed at exit, so leaks are not looked for.
ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:abort_on_error=0:exitcode=1 \
UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
TSAN_OPTIONS="halt_on_error=1:exitcode=1:ignore_noninstrumented_modules=1" \
LD_PRELOAD="$preload $(${CXX:-g++} -print-file-name=libstdc++.so.6)" PYTHONPATH="$root" PYTHONMALLOC=malloc OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 \
    $fixed "$python" "$root/tools/sanitize_driver.py" --library "$build/out/splat" "$@"
