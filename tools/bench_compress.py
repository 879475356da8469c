"""Size and fidelity of `.splatz` against SOG, SPZ and compressed .ply of the same cloud.

    python tools/bench_compress.py cloud.ply [more clouds]

For each cloud: bytes, PSNR of renders against renders of the input, seconds to write and to read; then what .splatz
needs for the fidelity that our SOG reaches, pruning included.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from splat import compression, formats
from splat.compression.judge import by_renders
from splat.rendering import RenderOptions

CODECS = {
    "a.sog": [{}],
    "a.spz": [{}],
    "a.compressed.ply": [{}],
    "a.splatz": [{"quality": q} for q in (40.0, 50.0, 60.0)],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clouds", nargs="+", type=Path)
    parser.add_argument("--search", action="store_true", help="also search for the fidelity of the SOG")
    options = parser.parse_args()
    print(f"{'cloud':24} {'codec':20} {'bytes':>11} {'PSNR':>7} {'write s':>8} {'read s':>7}")
    for path in options.clouds:
        cloud = formats.read(path)
        judge, mark = by_renders(cloud, RenderOptions()), None
        for name, settings in CODECS.items():
            for values in settings:
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder) / name
                    start = time.perf_counter()
                    formats.write(cloud, file, **values)
                    written = time.perf_counter()
                    found = formats.read(file)
                    read, size = time.perf_counter(), file.stat().st_size
                quality = judge.psnr(found)
                mark = (quality, size) if name == "a.sog" else mark
                label = name[2:] + "".join(f" {value:g}" for value in values.values())
                times = f"{written - start:8.2f} {read - written:7.2f}"
                print(f"{path.name[:24]:24} {label:20} {size:11,} {quality:7.2f} {times}", flush=True)
        if options.search:
            best = compression.compress(cloud, fidelity=mark[0])
            part = f"{best.size / mark[1]:.2f} of the SOG's size"
            print(f"{path.name[:24]:24} {'splatz searched':20} {best.size:11,} {best.psnr:7.2f} {part}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
