"""Structure from motion on folders of photos: incremental mapping, the global mapper, and one after the other.

    python tools/bench_sfm.py DATA --results sfm.jsonl --work FOLDER [--sets fox horse16 …]  # measure what is missing
    python tools/bench_sfm.py DATA --results sfm.jsonl --table  # the table of docs/measurements/sfm.md

Features and matches are found once a set and kept in FOLDER; all mappers begin from them. Results are JSON lines, added
as they come; what is there is not measured again. Seconds are those of the processor, all threads together, as other
work may run beside. Rotations and positions are compared where poses are known, after the best similarity.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

SETS = {  # photos' folder below DATA; whether sparse/0 beside it holds poses that were not found from these photos
    "fountain_p11": ("images", True), "horse16": ("images", False), "sacre_coeur": ("photos", False),
    "brighton_beach": ("images", False), "kitchen24": ("images", False), "ochota": ("images", False),
    "syn_table": ("images", True), "dtu_scan65": ("images", True), "fox": ("images", False),
}  # fmt: skip
MOST = 40  # photos of a set, the first by name, but for those with known poses
WAYS = ("incremental", "second try", "global")


def matched(folder: Path, work: Path, known: bool):
    """The photos of ``folder`` with features and matches in ``work``, from there if they were found before."""
    from splat.scene.masks import find_masks
    from splat.scene.readers.photo_folder import photo_names
    from splat.scene.sfm.photo_preparation import prepare
    from splat.scene.sfm.reconstruct import match_photos, quiet

    names = photo_names(folder)
    names = names if known else names[:MOST]
    done = work / "matched"
    if done.is_file():
        photos = prepare_again(folder, names)
        return photos, work / "database.db"
    if work.exists():
        shutil.rmtree(work)  # of a run that was stopped
    photos = prepare(folder, names, find_masks(folder, names), work)
    with quiet():
        start = time.process_time()
        database = match_photos(work, photos, False, lambda *_: None)
    done.write_text(f"{time.process_time() - start:.1f}")
    return photos, database


def prepare_again(folder: Path, names: list[str]):
    """`prepare` without its files, which are there."""
    from splat.scene.sfm.photo_preparation import prepare

    with tempfile.TemporaryDirectory() as scratch:
        return prepare(folder, names, {}, Path(scratch))


def measure(work: Path, photos, database: Path, way: str, truth) -> dict:
    """One row: what ``way`` makes of the matches in ``database``."""
    from splat.scene.sfm.mapping import map_globally, map_photos
    from splat.scene.sfm.reconstruct import quiet

    silent = lambda *_: None  # noqa: E731
    start = time.process_time()
    with quiet():
        if way == "global":
            found = map_globally(work, database, photos, silent)
        else:
            found = map_photos(work, database, photos, silent, second_try=way == "second try")
    row = {"photos": len(photos), "cpu_seconds": round(time.process_time() - start, 2), "registered": 0}
    if found is None:
        return row
    model, finding = found
    row |= {
        "registered": finding.registered, "points": finding.points, "observations": finding.observations,
        "reprojection": round(finding.error, 4), "supported": round(finding.supported, 4),
        "angles": [round(angle, 2) for angle in finding.angles], "doubts": list(finding.doubts),
        "choice": finding.choice,
    }  # fmt: skip
    if truth is not None:
        names = {photo.alias: photo.name for photo in photos}
        poses = {names[i.name]: i.cam_from_world().matrix() for i in model.images.values() if i.has_pose}
        row |= compare(poses, truth)
    return row


def poses_of(model: Path) -> dict[str, np.ndarray]:
    """World-to-camera matrices (3, 4) of a COLMAP model by image name."""
    from splat.scene.colmap_library import pycolmap

    images = pycolmap.Reconstruction(str(model)).images.values()
    return {image.name: image.cam_from_world().matrix() for image in images}


def compare(poses: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict:
    """Median and largest error of the rotations (degrees), and of the positions in per cent of the cameras' radius (the
    root mean square distance from their centre), after the best similarity (Umeyama 1991) over positions."""
    names = sorted(set(poses) & set(truth))
    if len(names) < 3:
        return {}
    found, true = (np.stack([-p[:, :3].T @ p[:, 3] for p in map(which.get, names)]) for which in (poses, truth))
    a, b = found - found.mean(0), true - true.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn, scale = u @ sign @ vt, np.trace(np.diag(s) @ sign) / (a**2).sum()
    radius = np.sqrt((b**2).sum(1).mean())
    positions = 100 * np.linalg.norm(scale * a @ turn.T - b, axis=1) / radius
    # R_found x_found ≈ R_true x_true with x_true = turn · x_found.
    cosines = [(np.trace(truth[name][:, :3] @ turn @ poses[name][:, :3].T) - 1) / 2 for name in names]
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return {
        "rotation_median": round(float(np.median(angles)), 4), "rotation_worst": round(float(angles.max()), 4),
        "position_median": round(float(np.median(positions)), 4), "position_worst": round(float(positions.max()), 4),
    }  # fmt: skip


def table(rows: list[dict]) -> str:
    """Markdown of ``rows``; a dash where poses are not known."""
    lines = [
        "| photos | mapper | registered | points | reprojection, px | CPU seconds | rotation, ° | position, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = list(SETS)
    for row in sorted(rows, key=lambda row: (order.index(row["set"]), WAYS.index(row["way"]))):
        cells = [row["set"], row["way"], f"{row['registered']} of {row['photos']}"]
        cells += [f"{row['points']:,}", f"{row['reprojection']:.2f}"] if row["registered"] else ["–", "–"]
        cells.append(f"{row['cpu_seconds']:.1f}")
        for name in ("rotation", "position"):
            known = f"{name}_median" in row
            cells.append(f"{row[f'{name}_median']:.2f} ({row[f'{name}_worst']:.2f})" if known else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.is_file() else []
    if given.table:
        return print(table(rows))
    if given.work is None:
        parser.error("--work FOLDER is needed to measure")
    from splat.machine import usable_cores

    done = {(row["set"], row["way"]) for row in rows}
    for name in given.sets:
        missing = [way for way in WAYS if (name, way) not in done]
        if not missing:
            continue
        photos_folder, known = SETS[name]
        photos, database = matched(given.data / name / photos_folder, given.work / name, known)
        truth = poses_of(given.data / name / "sparse/0") if known else None
        for way in missing:
            row = {"set": name, "way": way, "threads": usable_cores()}
            row |= measure(given.work / name, photos, database, way, truth)
            with given.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
