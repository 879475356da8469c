"""Scenes and clouds as programs and people leave them, each from its seed alone: sound files, then a few changes.

`tools/odd_scenes.py` reads them and judges what became of them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from fuzz_scenes import SIZE
from PIL import Image

from splat.camera import Camera

VIEWS, POINTS = 6, 30
ODD = (
    None,
    "x",
    "",
    -1,
    0,
    1e300,
    float("nan"),
    float("inf"),
    True,
    [],
    {},
    [1, "a"],
    "1.5",
    10**400,
    "\ud800",
    "a\0b",
)
WORDS = ("nan", "inf", "x", "-1", "0", "1e999", "1,5", "é", "", "1 2", "99999999999999999999", "#")
MODELS = ("PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FOV", "opencv", "EQUIRECTANGULAR", "LYTRO")
Change = Callable[[Random, Any, Path], None]


def poses() -> list[np.ndarray]:
    """(4, 4) world-to-camera matrices on a circle around the origin."""
    up, found = torch.tensor([0.0, 0.0, 1.0]), []
    for k in range(VIEWS):
        position = torch.tensor([4 * np.cos(k), 4 * np.sin(k), 1.0])
        found.append(Camera.look_at(position, torch.zeros(3), up, *SIZE).world_to_camera.double().numpy())
    return found


def photos(folder: Path) -> None:
    """A picture for each view, in ``folder``/images."""
    (folder / "images").mkdir(parents=True)
    for k in range(VIEWS):
        Image.new("RGB", SIZE, (40 * k, 0, 0)).save(folder / f"images/{k:03d}.png")


def on_disk(folder: Path) -> set[Path]:
    """The photos that there are."""
    return {path.resolve() for path in (folder / "images").rglob("*") if path.suffix.lower() in {".png", ".jpg"}}


def extra_photo(rng: Random, folder: Path) -> None:
    Image.new("RGB", SIZE).save(folder / f"images/extra{rng.randrange(99)}.png")


def lose_photo(rng: Random, folder: Path) -> None:
    paths = sorted((folder / "images").iterdir())
    if len(paths) > 1:
        rng.choice(paths).unlink()


def rename_photo(rng: Random, folder: Path) -> None:
    path = rng.choice(sorted((folder / "images").iterdir()))
    path.rename(path.with_suffix(rng.choice((".PNG", ".Png", ".jpg"))))  # Pillow looks at the bytes


# ---- ply ----


def ply_text(rng: Random) -> tuple[bytes, int]:
    """A cloud with a header of any style, and its number of points."""
    names = rng.choice((("red", "green", "blue"), ("r", "g", "b"), ("scalar_red", "scalar_green", "scalar_blue"), ()))
    kind, code = rng.choice((("uchar", "u1"), ("ushort", "u2"), ("int", "i4"), ("float", "f4"), ("double", "f8")))
    more = [n for n in ("nx", "ny", "nz", "intensity", "label") if rng.random() < 0.3]
    columns = [("float", "f4", axis) for axis in "xyz"] + [(kind, code, n) for n in names]
    columns += [("double", "f8", n) for n in more]
    if rng.random() < 0.3:
        rng.shuffle(columns)
    form = rng.choice(("ascii", "binary_little_endian", "binary_big_endian"))
    rows = np.empty(POINTS, [(n, (">" if "big" in form else "<") + c) for _, c, n in columns])
    values = np.random.default_rng(rng.randrange(1 << 30))
    for _, code, name in columns:
        rows[name] = values.uniform(-0.6, 0.6, POINTS) if code[0] == "f" else values.integers(0, 255, POINTS)
    for _ in range(rng.choice((0, 0, 1, 4))):
        rows[rng.choice("xyz")][rng.randrange(POINTS)] = rng.choice((np.nan, np.inf, 1e30))
    lines = ["ply", f"format {form} 1.0", f"element vertex {POINTS}"]
    lines += [f"property {kind} {name}" for kind, _, name in columns]
    for _ in range(rng.randrange(3)):
        words = rng.choice(("made by é", "Облако", "点云", "end_header", "element vertex 5", "x" * 300, ""))
        lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(("comment ", "obj_info ", "comment")) + words)
    if rng.random() < 0.3:
        lines += ["element face 0", "property list uchar int vertex_indices"]
    end = rng.choice(("\n", "\n", "\r\n"))
    head = (end.join([*lines, "end_header"]) + end).encode(rng.choice(("utf-8", "latin-1", "cp1251")), "replace")
    text = "".join(" ".join(repr(v) for v in row.tolist()) + end for row in rows).encode()
    return head + (text if form == "ascii" else rows.tobytes()), POINTS


def damage_header(rng: Random, data: bytes) -> bytes:
    """``data`` with one change in its header."""
    end = data.rfind(b"end_header", 0, 4096)
    lines = data[:end].split(b"\n")
    at = rng.randrange(len(lines))
    match rng.randrange(7):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            lines[at] = b" ".join(rng.sample(lines[at].split(), len(lines[at].split())))
        case 3:
            lines[at] = lines[at].replace(b"float", rng.choice((b"float16", b"uchar", b"list uchar int", b"")))
        case 4:
            lines[at] = lines[at].replace(
                str(POINTS).encode(), rng.choice((b"0", b"-1", b"many", b"9" * 30, b"31", b"29"))
            )
        case 5:
            lines[at] = bytes(rng.randrange(256) for _ in range(20))
        case _:
            return data[: rng.randrange(len(data))]
    return b"\n".join(lines) + data[end:]


def odd_ply(seed: int, folder: Path) -> None:
    """A cloud with a header of any style, in half of the cases with a change."""
    rng = Random(f"ply {seed}")
    data, _ = ply_text(rng)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "p.ply").write_bytes(damage_header(rng, data) if seed % 2 else data)


# ---- transforms.json ----


def described(folder: Path) -> dict[str, Any]:
    """What a sound transforms.json holds."""
    flip, frames = np.diag([1.0, -1.0, -1.0, 1.0]), []
    for k, pose in enumerate(poses()):
        frames.append({"file_path": f"images/{k:03d}.png", "transform_matrix": (np.linalg.inv(pose) @ flip).tolist()})
    values = {"w": SIZE[0], "h": SIZE[1], "fl_x": 30.0, "fl_y": 30.5, "cx": 16.0, "cy": 12.0, "k1": 0.01, "p1": 0.0}
    return {**values, "camera_model": "OPENCV", "ply_file_path": "p.ply", "frames": frames}


def one_frame(rng: Random, values: dict[str, Any]) -> dict[str, Any]:
    frames = values.get("frames")
    frames = [each for each in frames if isinstance(each, dict)] if isinstance(frames, list) else []
    return rng.choice(frames) if frames else {}


def odd_value(rng: Random, values: dict[str, Any], folder: Path) -> None:
    holder = rng.choice((values, values, one_frame(rng, values)))
    key = rng.choice(
        [*holder, "k2", "k4", "camera_angle_x", "is_fisheye", "applied_transform", "mask_path", "aabb_scale"]
    )
    if key == "frames" and rng.random() < 0.8:
        return
    holder[key] = rng.choice(ODD)


def gone_key(rng: Random, values: dict[str, Any], folder: Path) -> None:
    holder = rng.choice((values, one_frame(rng, values)))
    if holder:
        del holder[rng.choice(list(holder))]


def odd_path(rng: Random, values: dict[str, Any], folder: Path) -> None:
    frame = one_frame(rng, values)
    name = str(frame.get("file_path", "images/000.png"))
    frame["file_path"] = rng.choice(
        (name.replace("/", "\\"), ".\\" + name, "C:\\me\\" + name, "/home/me/" + name, name.upper(), name[:-4],
         name[:-3] + "JPG", "./" + name, name + ".png", "images/gone.png", "", "..", "a" * 300,
         "images/\u202e.png", "../" + name)
    )  # fmt: skip


def odd_matrix(rng: Random, values: dict[str, Any], folder: Path) -> None:
    frame = one_frame(rng, values)
    try:
        matrix = np.array(frame.get("transform_matrix"), float).reshape(4, 4)
    except (TypeError, ValueError):
        return
    frame["transform_matrix"] = rng.choice(
        (matrix[:3].tolist(), matrix.reshape(-1).tolist(), (2 * matrix).tolist(), (matrix * np.nan).tolist(),
         (matrix @ np.diag([1, 1, -1, 1])).tolist(), matrix[:2].tolist(), matrix.astype(str).tolist(),
         (matrix + 1e200).tolist(), [], [matrix.tolist()])
    )  # fmt: skip


def odd_lists(rng: Random, values: dict[str, Any], folder: Path) -> None:
    names = [f"images/{k:03d}.png" for k in range(VIEWS)] + ["000", ".\\images\\001.png", "gone.png"]
    for split in rng.sample(("train", "val", "test"), rng.randrange(1, 4)):
        values[f"{split}_filenames"] = rng.sample(names, rng.randrange(len(names)))


def odd_frames(rng: Random, values: dict[str, Any], folder: Path) -> None:
    frames = values.get("frames")
    if not isinstance(frames, list) or not frames:
        return
    match rng.randrange(4):
        case 0:
            frames.append(dict(one_frame(rng, values)))
        case 1:
            frames.pop(rng.randrange(len(frames)))
        case 2:
            del frames[rng.randrange(3) :]
        case _:
            frames.append({**one_frame(rng, values), "file_path": "images/not_there.png"})


def odd_lens(rng: Random, values: dict[str, Any], folder: Path) -> None:
    holder = rng.choice((values, one_frame(rng, values)))
    holder["camera_model"] = rng.choice(MODELS)
    holder[rng.choice(("k1", "k2", "k3", "p1", "omega", "alpha"))] = rng.uniform(-0.3, 0.3)
    holder[rng.choice(("fl_x", "w", "h", "cx", "camera_angle_x"))] = rng.choice((30, 16, 64, 0.7, 2, 1e-9))


JSON_CHANGES: tuple[Change, ...] = (
    odd_value, odd_value, gone_key, odd_path, odd_path, odd_matrix, odd_lists, odd_frames, odd_lens,
    lambda rng, values, folder: extra_photo(rng, folder),
    lambda rng, values, folder: lose_photo(rng, folder),
    lambda rng, values, folder: rename_photo(rng, folder),
)  # fmt: skip


def odd_transforms(seed: int, folder: Path) -> None:
    """A scene with a transforms.json that has a few changes, in its values, its photos and its text."""
    rng = Random(f"transforms {seed}")
    photos(folder)
    data, _ = ply_text(rng)
    (folder / "p.ply").write_bytes(data)
    values = described(folder)
    for _ in range(rng.randrange(5)):
        rng.choice(JSON_CHANGES)(rng, values, folder)
    if rng.random() < 0.2 and isinstance(values.get("frames"), list):
        frames = values["frames"]
        (folder / "transforms_test.json").write_text(json.dumps({**values, "frames": frames[4:]}))
        values["frames"], name = frames[:4], "transforms_train.json"
    else:
        name = rng.choice(("transforms.json", "transforms.json", "dataset.json"))
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-be"))
    text = json.dumps(values, indent=rng.choice((None, 1))).encode(encoding)
    if rng.random() < 0.1:
        text = bytes(damage(rng, bytearray(text)))
    (folder / name).write_bytes(text)


def damage(rng: Random, data: bytearray) -> bytearray:
    """``data`` with an end cut off, or some bytes changed or doubled."""
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data) + 1)]
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        data[at : at + 1] = rng.choice((b"", bytes([rng.randrange(256)]), data[at : at + 1] * 2, b"\n", b" "))
    return data


# ---- COLMAP texts ----


def colmap_texts(folder: Path) -> dict[str, list[str]]:
    """The lines of a sound model's files."""
    import pycolmap

    points = np.random.default_rng(0).uniform(-0.6, 0.6, (POINTS, 3))
    images = []
    for k, pose in enumerate(poses()):
        x, y, z, w = pycolmap.Rigid3d(pose[:3]).rotation.quat
        images.append(" ".join(map(str, [k + 1, w, x, y, z, *pose[:3, 3], 1, f"{k:03d}.png"])))
        local = points @ pose[:3, :3].T + pose[:3, 3]
        xy = 30 * local[:, :2] / local[:, 2:] + (16, 12)
        images.append(" ".join(f"{x:.3f} {y:.3f} {m + 1}" for m, (x, y) in enumerate(xy)))
    rows = [" ".join(map(str, [m + 1, *xyz, 10, 20, 30, 0.5, 1, m])) for m, xyz in enumerate(points)]
    return {
        "cameras": ["# Number of cameras: 1", f"1 PINHOLE {SIZE[0]} {SIZE[1]} 30 30 16 12"],
        "images": [f"# Number of images: {VIEWS}", *images],
        "points3D": [f"# Number of points: {POINTS}", *rows],
    }


def odd_line(rng: Random, texts: dict[str, list[str]], folder: Path) -> None:
    lines = texts[rng.choice(("cameras", "images", "images", "images", "points3D"))]
    if not lines:
        return
    at = rng.randrange(len(lines))
    words = lines[at].split(" ")
    match rng.randrange(8):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            lines.insert(at, rng.choice(("", "# a comment", "  ", "\t")))
        case 3:
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            lines[at] = " ".join(words)
        case 4:
            del words[rng.randrange(len(words))]
            lines[at] = " ".join(words)
        case 5:
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
        case 6:
            lines[at] = "   ".join(words) + rng.choice((" ", "\t", ""))
        case _:
            lines[at] = ""


def odd_keypoints(rng: Random, texts: dict[str, list[str]], folder: Path) -> None:
    """Second lines are gone or empty, for all images or the last."""
    lines = texts["images"]
    seconds = list(range(2, len(lines), 2))
    chosen = rng.choice((seconds, seconds[-1:], rng.sample(seconds, len(seconds) // 2)))
    gone = rng.random() < 0.5
    for at in sorted(chosen, reverse=True):
        if gone:
            del lines[at]
        else:
            lines[at] = ""


def odd_names(rng: Random, texts: dict[str, list[str]], folder: Path) -> None:
    old, new = rng.choice(
        ((".png", ".JPG"), (".png", ".PNG"), (".png", ""), ("00", "images/00"), ("00", "C:\\me\\00"),
         ("00", "/home/me/00"), ("001.png", "002.png"), ("001.png", "a b c.png"), ("001.png", "é.png"))
    )  # fmt: skip
    for at in range(1, len(texts["images"])):
        head, _, name = texts["images"][at].rpartition(" ")
        if name.endswith(".png"):
            texts["images"][at] = f"{head} {name.replace(old, new)}"


def odd_camera(rng: Random, texts: dict[str, list[str]], folder: Path) -> None:
    numbers = " ".join(str(rng.choice((30, 16, 12, 0, 0.1, -0.01))) for _ in range(rng.randrange(13)))
    texts["cameras"][-1] = f"1 {rng.choice(MODELS)} {SIZE[0]} {SIZE[1]} 30 16 12 {numbers}".strip()


def odd_points(rng: Random, texts: dict[str, list[str]], folder: Path) -> None:
    texts["points3D"] = rng.choice(([], texts["points3D"][:5], texts["points3D"][::-1], texts["points3D"][:1]))


COLMAP_CHANGES: tuple[Change, ...] = (
    odd_line, odd_line, odd_line, odd_keypoints, odd_names, odd_camera, odd_points,
    lambda rng, texts, folder: extra_photo(rng, folder),
    lambda rng, texts, folder: lose_photo(rng, folder),
    lambda rng, texts, folder: rename_photo(rng, folder),
)  # fmt: skip


def odd_colmap(seed: int, folder: Path) -> None:
    """A scene with a text model that has a few changes in its lines, photos and places."""
    rng = Random(f"colmap {seed}")
    photos(folder)
    texts = colmap_texts(folder)
    for _ in range(rng.randrange(4)):
        rng.choice(COLMAP_CHANGES)(rng, texts, folder)
    place = folder / rng.choice(("sparse/0", "sparse", "colmap/sparse/0", "dense/0/sparse", "."))
    place.mkdir(parents=True, exist_ok=True)
    end = rng.choice(("\n", "\n", "\r\n"))
    for stem, lines in texts.items():
        data = (end.join(lines) + rng.choice((end, ""))).encode("utf-8", "surrogatepass")
        if stem == "points3D" and rng.random() < 0.1:
            continue
        data = bytes(damage(rng, bytearray(data))) if data and rng.random() < 0.05 else data
        (place / f"{stem}.txt").write_bytes(rng.choice((b"", b"", b"\xef\xbb\xbf")) + data)
