"""Fuzzing of cloud files: small sound files of every format, how they are read, and checksums that hold again."""

import zlib
from collections.abc import Callable
from pathlib import Path

import fuzz_formats

from splat import formats


def written(name: str) -> Callable[[Path], list[Path]]:
    """Small files of the cloud format ``name``, with every option that changes the layout."""

    def make(folder: Path) -> list[Path]:
        cloud, paths = fuzz_formats.sample_cloud(60), []
        for file, options in fuzz_formats.VARIANTS[name]:
            formats.write(cloud, folder / file, **options)
            paths.append(folder / file)
        return paths

    return make


def neural(name: str) -> Callable[[Path], list[Path]]:
    """A small file of a format that only a compression method writes."""

    def make(folder: Path) -> list[Path]:
        import torch

        from splat.coding.octree import quantize_positions
        from splat.formats import codebooks, neuralgs, vectree

        cloud = fuzz_formats.sample_cloud(60, 1)
        path = folder / f"a.{name}"
        if name == "vectree":
            path.write_bytes(vectree.pack(cloud, torch.ones(60), codes=8))
        elif name == "codebooks":
            index = torch.arange(60) % 7
            groups = [("log_scales", 3), ("quats", 4), ("sh", 12)]
            books = [
                codebooks.Codebook(codebooks.Group(tensor, 0, width, 7), torch.randn(7, width), index)
                for tensor, width in groups
            ]
            path.write_bytes(codebooks.pack(cloud, books))
        else:
            settings = neuralgs.NetworkSettings(clusters=2, hidden=4, layers=2)
            wide = neuralgs.ATTRIBUTES + 12
            shapes = neuralgs.layer_shapes(2, 4, 2, wide)
            grid = quantize_positions(cloud.means.double().numpy(), settings.levels)
            layers = [torch.randn(shape) for shape in shapes]
            networks = neuralgs.Networks(
                grid, torch.arange(60) % 2, layers, torch.zeros(wide), torch.ones(wide), 1, settings
            )
            path.write_bytes(neuralgs.pack(networks))
        return [path]

    return make


def foreign(name: str, folder: Path) -> list[Path]:
    """Small files as other programs write them."""
    import torch

    table = fuzz_formats.sample_cloud(60)
    xyz = table.means.numpy()
    path = folder / {"mip.ply": "a.ply", "checkpoint": "a.pt", "pcd": "a.pcd", "text": "a.xyz"}[name]
    if name == "mip.ply":
        formats.write(table.replace(extras={"filter_3D": torch.rand(60)}), path, normals=False)
        path.write_bytes(path.read_bytes().replace(b"float opacity", b"float scalar_Opacity"))
    elif name == "checkpoint":
        splats = {"means": table.means, "scales": table.log_scales, "quats": table.quats}
        splats |= {"opacities": table.logit_opacities, "sh0": table.sh[:, :1].clone(), "shN": table.sh[:, 1:].clone()}
        torch.save({"splats": splats}, path)
    elif name == "pcd":
        data = xyz.astype("<f4").tobytes()
        packed = b"".join(bytes([15]) + data[at : at + 16] for at in range(0, len(data), 16))
        head = "# .PCD\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 60\nDATA "
        path.write_bytes(f"{head}binary\n".encode() + data)
        other = folder / "b.pcd"
        sizes = len(packed).to_bytes(4, "little") + len(data).to_bytes(4, "little")
        other.write_bytes(f"{head}binary_compressed\n".encode() + sizes + packed)
        return [path, other]
    else:
        path.write_text("".join(f"{x:.4f} {y:.4f} {z:.4f} 10 20 30\n" for x, y, z in xyz))
    return [path]


def read_cloud(path: Path) -> None:
    """Everything that `splat info` asks of a cloud file."""
    table = formats.read_table(path)
    formats.antialiased(path)
    assert fuzz_formats.valid(table), "an invalid cloud"


def reseal_checked(data: bytes) -> bytes:
    """Right CRC-32 for the formats of `splat.coding.checked`, whose magic words have eight or nine bytes."""
    at = 9 if data[:8] in (b"CODEBOOK", b"NEURALGS") else 8
    return data[:at] + zlib.crc32(data[at + 4 :]).to_bytes(4, "little") + data[at + 4 :]


def usd_in_forks(seeds: list[Path]) -> None:
    """Read USD stages in forks of a process that has usd-core loaded: a hundred times as fast."""
    from splat.formats.usd import usd

    usd.extract = fuzz_formats.extract_in_fork
    fuzz_formats._sound.extend(seeds)


def sog_folder(folder: Path) -> list[Path]:
    """The loose files of a SOG; its meta.json is damaged."""
    formats.write(fuzz_formats.sample_cloud(60), folder / "loose" / "meta.json")
    return [folder / "loose" / "meta.json"]
