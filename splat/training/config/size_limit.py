"""How many Gaussians a file of given size has room for. Needs no PyTorch."""

from splat.files import bytes_of

_PLY_HEADER = 2300  # bytes, more than the header of any cloud.ply takes


def gaussians_within(size: str, sh_degree: int, features: int) -> int:
    """Number of Gaussians whose cloud.ply is no larger than ``size`` (such as 12MB).

    Args:
        features: extra columns for the appearance of photos.
    """
    from splat.formats.ply.ply import row_bytes

    header = _PLY_HEADER + 64 * features
    return (bytes_of(size, "the setting size") - header) // row_bytes(sh_degree, features)
