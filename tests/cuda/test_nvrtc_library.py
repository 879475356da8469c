"""Which NVRTC is taken, and its targets, by the driver's version and the GPU: with files that only have names."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from splat.errors import BackendError
from splat.native import cuda_driver, nvrtc, nvrtc_library

# The real ones' architectures, shortened.
KNOWN = {
    (11, 8): [50, 60, 70, 75, 80, 86, 89, 90],
    (12, 4): [50, 60, 70, 75, 80, 86, 89, 90],
    (12, 8): [50, 60, 70, 75, 80, 86, 89, 90, 100, 120],
    (13, 0): [75, 80, 86, 89, 90, 100, 120],
    (13, 5): [75, 80, 86, 89, 90, 100, 103, 120, 121],
}


class FakeLibrary:
    """Answers what an NVRTC of a version answers about itself."""

    def __init__(self, version: tuple[int, int]) -> None:
        self.version = version

    def __getitem__(self, name: str):
        return getattr(self, name)

    def nvrtcVersion(self, major, minor) -> int:
        major._obj.value, minor._obj.value = self.version
        return 0

    def nvrtcGetNumSupportedArchs(self, count) -> int:
        count._obj.value = len(KNOWN[self.version])
        return 0

    def nvrtcGetSupportedArchs(self, values) -> int:
        values[:] = KNOWN[self.version]
        return 0


def put(folder: Path, version: tuple[int, int], windows: bool = False) -> None:
    """Empty files with the names that NVIDIA's packages have."""
    major, minor = version
    names = [f"libnvrtc.so.{major}", f"libnvrtc-builtins.so.{major}.{minor}", f"libnvrtc.alt.so.{major}"]
    if windows:
        names = [f"nvrtc64_{major}0_0.dll", f"nvrtc-builtins64_{major}{minor}.dll", f"nvrtc64_{major}0_0.alt.dll"]
    folder.mkdir()
    for name in names:
        (folder / name).touch()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a machine with NVRTCs of certain versions and a driver; returns the names that were opened."""
    opened = []

    def set_up(versions, limit: tuple[int, int] | None, windows: bool = False) -> list[str]:
        for number, version in enumerate(versions):
            put(tmp_path / str(number), version, windows)

        def try_open(name: str) -> FakeLibrary | None:
            if "builtins" in name or not Path(name).is_absolute():
                return None
            opened.append(name)
            return FakeLibrary(versions[int(Path(name).parent.name)])

        def get_version(pointer) -> int:
            pointer._obj.value = 1000 * limit[0] + 10 * limit[1]
            return 0

        monkeypatch.setattr(nvrtc_library, "folders", lambda: [tmp_path / str(i) for i in range(len(versions))])
        monkeypatch.setattr(nvrtc_library, "_try_open", try_open)
        stand_in = None if limit is None else SimpleNamespace(cuDriverGetVersion=get_version)
        monkeypatch.setattr(cuda_driver, "library", lambda: stand_in)
        nvrtc_library._chosen.cache_clear()
        nvrtc_library._load.cache_clear()
        return opened

    yield set_up
    nvrtc_library._chosen.cache_clear()
    nvrtc_library._load.cache_clear()


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(
    ("limit", "taken"),
    [
        ((12, 0), (12, 8)),  # machine code of any 12.x runs on a driver for 12.0
        ((12, 9), (12, 8)),
        ((13, 0), (13, 5)),
        ((14, 1), (13, 5)),
        ((11, 4), (11, 8)),
        (None, (13, 5)),  # to compile where there is no GPU
    ],
)
def test_the_newest_that_the_driver_understands_is_taken(machine, limit, taken, windows: bool):
    opened = machine([(12, 4), (13, 0), (11, 8), (13, 5), (12, 8)], limit, windows)
    assert nvrtc_library.compiler(90).version == taken
    assert len(opened) == 1  # no other one was loaded


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ((12, 4), ("NVRTC 13.5 is too new", "CUDA 12.4", "pip install nvidia-cuda-nvrtc-cu12 ")),
        ((11, 8), ("NVRTC 13.5 is too new", "CUDA 11.8", "pip install nvidia-cuda-nvrtc-cu11 ")),
    ],
)
def test_one_that_is_too_new_is_named_with_what_to_install(machine, limit, words):
    opened = machine([(13, 5)], limit)
    with pytest.raises(BackendError) as caught:
        nvrtc_library.compiler(None)
    assert all(word in str(caught.value) for word in (*words, "--backend cpu")) and not opened
    assert "\n" not in str(caught.value) and ". " not in str(caught.value)


def test_a_library_whose_name_tells_nothing_is_asked(machine, monkeypatch):
    machine([], (12, 4))
    monkeypatch.setattr(
        nvrtc_library, "_try_open", lambda name: FakeLibrary((13, 0)) if name == "libnvrtc.so" else None
    )
    with pytest.raises(BackendError, match=r"NVRTC 13\.0 is too new"):
        nvrtc_library.compiler(None)


def test_an_older_one_serves_a_gpu_that_the_newest_no_longer_knows(machine):
    machine([(13, 5), (12, 8)], (13, 0))
    assert nvrtc_library.compiler(70).version == (12, 8) and nvrtc.targets(70) == ["sm_70"]
    assert nvrtc_library.compiler(75).version == (13, 5)


@pytest.mark.parametrize(
    ("versions", "limit", "capability", "targets"),
    [
        ([(12, 8)], (13, 0), 121, ["sm_120", "compute_120"]),  # first machine code of the same major version
        ([(12, 8)], (13, 0), 103, ["sm_100", "compute_100"]),
        ([(12, 8)], (12, 4), 121, ["sm_120"]),  # the driver reads PTX of 12.4, not of 12.8
        ([(12, 4)], (12, 4), 120, ["compute_90"]),
        ([(12, 8), (12, 4)], (13, 0), 121, ["sm_120", "compute_120"]),
        ([(13, 0)], (13, 5), 140, ["compute_120"]),
        ([(13, 0)], (13, 5), 88, ["sm_86", "compute_86"]),
        ([(13, 5), (12, 8)], (13, 0), 140, ["compute_120"]),  # 13.5's PTX is too new for 13.0, that of 12.8 is not
    ],
)
def test_targets_of_a_gpu_that_nvrtc_does_not_know(machine, versions, limit, capability: int, targets):
    machine(versions, limit)
    assert nvrtc.targets(capability) == targets and nvrtc.target(capability) == targets[0]


def test_ptx_that_no_driver_reads_is_not_made(machine):
    machine([(12, 8)], (12, 4))
    with pytest.raises(BackendError, match=r"14\.0, which NVRTC 12\.8 does not know.*CUDA 12\.4.*--backend cpu"):
        nvrtc.targets(140)
    with pytest.raises(BackendError, match=r"3\.0, but NVRTC 12\.8 begins with 5\.0"):
        nvrtc.targets(30)
