"""Odd scenes (`tools/odd_inputs.py`), read: none may end in a traceback, and no photo may vanish in silence.

    python tools/odd_scenes.py --count 1000     # 1,000 transforms.json, 1,000 COLMAP texts, 500 ply headers

Every scene has to load, or be refused in one sentence. Photos in equal photos used and photos counted in notes; points
in equal points used and points counted.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from odd_inputs import odd_colmap, odd_ply, odd_transforms, on_disk

from splat.errors import InputError

SECONDS = 10  # of a processor, for one scene


def loaded(folder: Path) -> str:
    """Load the scene, hold its photos against those on disk and in the file; what became of it in a word."""
    from splat.scene import load_scene, random_points
    from splat.scene.scene import photo_count

    whole = random_points.random_points
    random_points.random_points = partial(whole, count=200)
    try:
        scene = load_scene(folder, progress=False)
    except InputError as error:
        refusal(error)
        return "refused"
    finally:
        random_points.random_points = whole
    notes = " | ".join(scene.notes)
    counts = Counter[str]()
    for count, said in re.findall(r"(?:^| \| )(\d+) photos? (.*?)(?= \| |$)", notes):
        reasons = ("not there", "in no ", "named again", "left out of training", "no pose")
        counts[next((reason for reason in reasons if reason in said), "used")] += int(count)
    used = {view.source.path.resolve() for view in scene.views}
    assert len(used) == photo_count(scene.views), "two views of one photo"
    unused = on_disk(folder) - used
    said = counts["in no "] + counts["left out of training"] + counts["no pose"]
    assert len(unused) == said, f"{len(unused)} photos are not used, notes say {said}: {notes}"
    frames = frames_in(folder)
    if frames is not None:
        named = counts["not there"] + counts["named again"] + counts["left out of training"]
        count = photo_count(scene.views) + named
        assert len(set(frames)) <= count <= len(frames), f"of {len(frames)} frames {count} are accounted for: {notes}"
    return "loaded with notes" if notes else "loaded"


def frames_in(folder: Path) -> list[str] | None:
    """Photos that the json files of the scene name, together; None for COLMAP models."""
    paths = [
        folder / name for name in ("transforms.json", "dataset.json", "transforms_train.json", "transforms_test.json")
    ]
    files = [path for path in paths if path.exists()]
    frames = [frame for path in files for frame in json.loads(path.read_bytes())["frames"]]
    return [frame["file_path"] for frame in frames] if files else None


def refusal(error: InputError) -> None:
    text = str(error)
    assert "\n" not in text and len(text) < 1200 and text.isprintable(), f"a refusal of odd form: {text!r}"


def read_ply(folder: Path) -> str:
    """Read the cloud; a sound one must be read, with every point used or counted."""
    from splat.scene.readers.sparse_ply import read_ply_points

    try:
        xyz, rgb, notes = read_ply_points(folder / "p.ply")
    except InputError as error:
        refusal(error)
        return "refused"
    assert xyz.shape == rgb.shape and rgb.dtype == np.uint8 and np.isfinite(xyz).all()
    left_out, of = (int(number) for number in re.findall(r"[\d,]+", notes[0])[:2]) if notes else (0, len(xyz))
    assert len(xyz) + left_out == of
    return "loaded with notes" if notes else "loaded"


KINDS = {"transforms": (odd_transforms, loaded, 2), "colmap": (odd_colmap, loaded, 2), "ply": (odd_ply, read_ply, 1)}


def run(kind: str, seeds: range, keep: Path | None = None) -> Counter[str]:
    """Make and read the scenes of ``seeds``; count what became of them. Failures are printed, and kept in ``keep``."""
    make, read, _ = KINDS[kind]
    result = Counter[str]()
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="odd-") as place:
            folder, start = Path(place) / "scene", time.process_time()
            make(seed, folder)
            try:
                word = read(folder)
                assert time.process_time() - start < SECONDS, "too slow"
            except Exception as error:
                word = "FAILED"
                print(f"{kind} {seed}: {type(error).__name__}: {error}", file=sys.stderr)
                traceback.print_exc(limit=-3)
                if keep is not None:
                    shutil.copytree(folder, keep / f"{kind}-{seed}", dirs_exist_ok=True)
            result[word] += 1
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="of transforms.json and COLMAP texts; half as many ply")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only these kinds")
    parser.add_argument("--keep", type=Path, help="folder for scenes that fail")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the scenes are tiny
    failed = 0
    for kind in options.kind or KINDS:
        count = options.count * KINDS[kind][2] // 2
        result = run(kind, range(options.first, options.first + count), options.keep)
        failed += result["FAILED"]
        print(f"{kind}: {count} scenes, " + ", ".join(f"{n} {word}" for word, n in sorted(result.items())), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
