"""Projection counts a Gaussian's tiles, binning lists them: two kernels, compiled apart, that must come to the same.

A compiler may contract a·b + c into one operation of another rounding, in one kernel and not in the other. Shown here:
that it cannot, in the machine code of every architecture and between differently compiled emulations; and that a wrong
count, were there one, would do no more harm than leave out a Gaussian at its last tiles.
"""

import math
import platform
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.emulator import CUDA, PLAIN, Compiler, Emulator
from support.machine_code import ARCHITECTURES, disassembler, instructions

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.errors import BackendError
from splat.native import cuda_launcher, nvrtc
from splat.rendering import RenderOptions, cuda

CONTRACTED = Compiler("g++", (*PLAIN.flags, "-mfma", "-ffp-contract=fast"))
START = "7.99435"  # of the arithmetic of tiles in machine code: log2(peak) + 7.99435…
# What cuda/tiles.h would be without operations of stated rounding.
OPERATORS = """
#define __fmul_rn(a, b) ((a) * (b))
#define __fadd_rn(a, b) ((a) + (b))
#define __fmaf_rn(a, b, c) ((a) * (b) + (c))
"""


def processor_has_fma() -> bool:
    """Whether contracted code runs here."""
    info = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and info.exists() and " fma " in info.read_text()


# ---- machine code ----


def arithmetic(code: list[str]) -> list[Counter]:
    """How many multiplications and fused ones each place has that finds tiles: from its first operation to the second
    rounding down, which makes the last column. A contraction would turn one of the former into one of the latter."""
    found = []
    for start in (number for number, line in enumerate(code) if START in line):
        counts: Counter = Counter()
        for line in code[start:]:
            operation = re.sub(r"^@!?U?P\w+ ", "", line).split()[0]
            counts[operation.split(".")[0]] += 1
            if operation.startswith(("F2I", "FRND")) and "FLOOR" in operation:
                counts["floors"] += 1
            if counts["floors"] == 2:
                break
        found.append(Counter({name: counts[name] for name in ("FMUL", "FFMA", "MUFU", "floors")}))
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_machine_code_has_the_same_arithmetic_in_both_kernels(architecture: int):
    try:
        known = nvrtc.architectures()
    except BackendError as error:
        pytest.skip(str(error))
    if architecture not in known or disassembler() is None:
        pytest.skip(f"no NVRTC for sm_{architecture}, or no nvdisasm (pip install nvidia-cuda-nvdisasm)")
    (counting,) = arithmetic(instructions("projection", architecture)["project_sh3"])
    assert counting["floors"] == 2 and counting["FFMA"] > 5 and counting["FMUL"] > 5
    for kernel in ("emit_short", "emit_int"):
        listing = arithmetic(instructions("binning", architecture)[kernel])
        assert listing == [counting] * 2, kernel  # by a thread, and by a warp


# ---- emulations ----


def many_gaussians(count: int, seed: int) -> tuple[GaussianCloud, Camera]:
    """A cloud of small and large Gaussians, and a camera in front of it."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    cloud = GaussianCloud(
        means=normal(count, 3) * torch.tensor([1.6, 0.9, 1.0]), log_scales=0.7 * normal(count, 3) - 4.5,
        quats=normal(count, 4), logit_opacities=1.5 * normal(count) - 0.5, sh=0.1 * normal(count, 1, 3),
    )  # fmt: skip
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = 3.5
    return cloud, Camera(1728.0, 1728.0, 960.0, 540.0, 1920, 1080, pose)


def on_the_edge(cloud: GaussianCloud, camera: Camera) -> GaussianCloud:
    """``cloud``, moved a little so that the right end of each ellipse lies where a column of tiles begins to count."""
    for _ in range(4):
        with cuda_launcher.use(Emulator()):
            seen = cuda._project(cloud, camera, RenderOptions(), camera.world_to_camera.float())
        x, _, m11, m12, m22, peak, _, _ = seen.splats.double().T
        right = x + (peak + math.log2(255)).sqrt() * (m12**2 + m22**2).sqrt() / (m11 * m22)
        edge = 16 * ((right - 0.5) / 16).round() + 0.5 - 1e-3
        depth = cloud.means[:, 2] + float(camera.world_to_camera[2, 3])
        step = torch.where(seen.tiles > 0, (edge - right) * depth / camera.fx, 0.0)
        cloud = cloud.replace(means=cloud.means + step[:, None].float() * torch.tensor([1.0, 0.0, 0.0]))
    return cloud


def disagreements(launcher: Emulator, cloud: GaussianCloud, camera: Camera) -> int:
    """Gaussians for which binning finds another number of tiles than projection."""
    columns, rows, margin = 120, 68, 3
    with cuda_launcher.use(launcher):
        seen = cuda._project(cloud, camera, RenderOptions(), camera.world_to_camera.float())
        assert int((seen.tiles > 32).sum()) > 10 and int((seen.tiles > 0).sum()) > len(cloud) // 2
        # Given more room than counted, binning shows what it finds.
        room = torch.where(seen.tiles > 0, seen.tiles + margin, 0)
        ends = room.cumsum(0)
        keys = torch.full((int(ends[-1]),), -1, dtype=torch.int16)
        ids, order = torch.full((len(keys),), -1, dtype=torch.int32), torch.arange(len(cloud), dtype=torch.int32)
        arguments = (seen.splats, room, order, ends, len(cloud), columns, rows, keys, ids)
        cuda._launch_each("binning", "emit_short", len(cloud), torch.device("cpu"), *arguments)
    assert int(keys.min()) >= 0 and int(keys.max()) == columns * rows
    found = torch.bincount(ids[keys < columns * rows].long(), minlength=len(cloud))
    return int((found != seen.tiles).sum())


@pytest.mark.skipif(not processor_has_fma(), reason="needs an x86-64 processor with FMA")
def test_contraction_changes_no_count(tmp_path):
    cloud, camera = many_gaussians(10_000, 0)
    edge = on_the_edge(cloud, camera)
    assert disagreements(Emulator(compilers={"binning": CONTRACTED}), edge, camera) == 0
    assert disagreements(Emulator(compilers={"projection": CONTRACTED}), edge, camera) == 0
    plain = tmp_path / "cuda"  # the same with operators: there it must show, or this test would see nothing
    shutil.copytree(CUDA, plain)
    header = (plain / "tiles.h").read_text()
    (plain / "tiles.h").write_text(header.replace("namespace splat {", OPERATORS + "namespace splat {", 1))
    assert disagreements(Emulator(plain, PLAIN, compilers={"binning": CONTRACTED}), edge, camera) > 10


# ---- were the counts wrong ----


def lists(context: cuda.Context) -> list[list[int]]:
    """Ids per tile."""
    return [context.ids[begin:end].tolist() for begin, end in context.ranges.tolist()]


@pytest.mark.parametrize("change", [-1, 1, 3])
def test_a_wrong_count_does_little_harm(change: int, monkeypatch):
    cloud, camera = many_gaussians(3000, 5)
    camera = Camera(90.0, 90.0, 80.0, 60.0, 160, 120, camera.world_to_camera)  # 10 × 8 tiles
    cloud.log_scales[:20] += 4.0
    project = cuda._project
    changed = torch.arange(0, 3000, 7)

    def miscounted(*arguments):
        seen = project(*arguments)
        tiles = torch.zeros(-(-3000 // 128) * 128, dtype=torch.int32)
        rows = changed[seen.tiles[changed] > 1]
        tiles[:3000] = seen.tiles
        tiles[rows] += change
        totals = torch.stack([(tiles > 0).view(-1, 128).sum(1), tiles.view(-1, 128).sum(1)], 1).int()
        return replace(seen, tiles=tiles[:3000].contiguous(), totals=totals)

    with cuda_launcher.use(Emulator()):
        truth, true_context = cuda.forward(cloud, camera, RenderOptions())
        right = lists(true_context)
        monkeypatch.setattr(cuda, "_project", miscounted)
        found, context = cuda.forward(cloud, camera, RenderOptions())
    last, count = {}, Counter()
    for tile, ids in enumerate(right):
        last |= dict.fromkeys(ids, tile)
        count.update(ids)
    assert max(count.values()) > 32  # some are listed by a whole warp
    missing = {i for i in changed.tolist() if count[i] > 1} if change < 0 else set()
    wanted = [[i for i in ids if not (i in missing and last[i] == tile)] for tile, ids in enumerate(right)]
    assert lists(context) == wanted
    same = torch.tensor([a == b for a, b in zip(right, wanted, strict=True)]).view(8, 10)
    pixels = same.repeat_interleave(16, 0).repeat_interleave(16, 1)[:120]
    assert torch.equal(found.rgb[pixels], truth.rgb[pixels])


@pytest.mark.parametrize(("kernel", "kind"), [("emit_short", torch.int16), ("emit_int", torch.int32)])
def test_nothing_is_written_beyond_the_end(kernel: str, kind: torch.dtype):
    # One Gaussian on a few tiles and one on hundreds, each given less room than it needs, and more.
    cloud, camera = many_gaussians(2, 0)
    cloud = cloud.replace(means=torch.zeros(2, 3), log_scales=torch.tensor([[-4.0] * 3, [-0.5] * 3]))
    columns, rows, margin = 120, 68, 50
    with cuda_launcher.use(Emulator()):
        seen = cuda._project(cloud, camera, RenderOptions(), camera.world_to_camera.float())
        assert 1 < int(seen.tiles[0]) < 32 < 300 < int(seen.tiles[1])
        for change in (-1, 0, 2):
            tiles = seen.tiles + change
            ends = tiles.cumsum(0) + torch.tensor([margin, 2 * margin])
            keys = torch.full((int(ends[-1]) + margin,), -7, dtype=kind)
            ids, order = torch.full((len(keys),), -7, dtype=torch.int32), torch.arange(2, dtype=torch.int32)
            arguments = (seen.splats, tiles, order, ends, 2, columns, rows, keys, ids)
            cuda._launch_each("binning", kernel, 2, torch.device("cpu"), *arguments)
            for i in range(2):
                begin, end = int(ends[i] - tiles[i]), int(ends[i])
                assert bool((ids[begin:end] == i).all()) and bool((ids[begin - margin : begin] == -7).all())
                assert bool((keys[begin - margin : begin] == -7).all()) and bool((keys[end : end + margin] == -7).all())
                listed = keys[begin:end][keys[begin:end] < columns * rows]
                assert len(listed) == int(seen.tiles[i]) + min(change, 0) and len(listed.unique()) == len(listed)
                assert bool((keys[begin:end][len(listed) :] == columns * rows).all())


@pytest.mark.parametrize(("kernel", "kind"), [("find_ranges_short", torch.int16), ("find_ranges_int", torch.int32)])
def test_keys_that_are_no_tiles_mark_no_list(kernel: str, kind: torch.dtype):
    keys = torch.tensor([-5, 0, 0, 2, 3, 3, 4, 4, 30000], dtype=kind)
    ranges = torch.zeros(6, 2, dtype=torch.int32)  # of 4 tiles, and a margin
    with cuda_launcher.use(Emulator()):
        cuda._launch_each("binning", kernel, len(keys), torch.device("cpu"), keys, len(keys), 4, ranges)
    assert ranges.tolist() == [[1, 3], [0, 0], [3, 4], [4, 6], [0, 0], [0, 0]]


def test_the_order_is_that_of_all_gaussians_by_depth_and_number():
    cloud, camera = many_gaussians(3000, 1)
    cloud = cloud.replace(means=(cloud.means * 4).round() / 4)  # many at the same depth
    with cuda_launcher.use(Emulator()):
        seen = cuda._project(cloud, camera, RenderOptions(), camera.world_to_camera.float())
        reaching = int((seen.tiles > 0).sum())
        assert seen.totals.sum(0).tolist() == [reaching, int(seen.tiles.sum())] and 1000 < reaching < 3000
        order, ends = cuda._by_depth(seen, seen.totals.cumsum(0), reaching)
    numbers = torch.nonzero(seen.tiles > 0).flatten()
    wanted = numbers[torch.sort(seen.depths[numbers], stable=True)[1]]
    assert torch.equal(order[:reaching].long(), wanted)
    assert torch.equal(ends[:reaching], seen.tiles[wanted].cumsum(0)) and int(ends[-1]) == int(ends[reaching - 1])
