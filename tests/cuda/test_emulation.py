"""The emulation itself: what is wrong on a GPU must be caught, what is right must run."""

import pytest
import torch
from support.emulator import EmulationError, Emulator, kernels

PRELUDE = '#include "device.h"\nusing namespace splat;\n'

RIGHT = """
KERNEL(64) reverse(const float* in, float* out) {
    SHARED(float, line, 64);
    const int t = threadIdx.x;
    line[t] = in[blockIdx.x * 64 + t];
    __syncthreads();
    out[blockIdx.x * 64 + t] = line[63 - t];
}
"""
WARP = """
KERNEL(64) collect(const float* in, float* out, float bias) {
    const int t = threadIdx.x, lane = t % 32;
    float below = __shfl_up_sync(ALL_LANES, in[t], 1);
    if (lane == 0) below = bias;
    const unsigned big = __ballot_sync(ALL_LANES, in[t] > 31.5f);
    out[t] = below + 1000.0f * __popc(big) + warp_sum(1.0f) * 0.25f;
    atomicAdd(out + 64, in[t]);
}
"""
COUNT = """
KERNEL(96) count(const float* in, int* out) {
    SHARED(int, total, 1);
    if (threadIdx.x == 0) total[0] = 0;
    __syncthreads();
    if (in[threadIdx.x] > 0.0f) atomicAdd(&total[0], 1);
    const int voted = __syncthreads_count(in[threadIdx.x] > 0.0f);
    if (threadIdx.x == 0) out[0] = total[0], out[1] = voted;
}
"""
# What to run, and the words that the complaint must contain.
WRONG = {
    "race": (
        """KERNEL(64) NAME(float* out) {
    SHARED(float, line, 64);
    const int t = threadIdx.x;
    line[t] = t;
    out[t] = line[63 - t];  // no barrier
}""",
        "shared line",
    ),
    "two_writers": (
        "KERNEL(64) NAME(float* out) {\n    SHARED(float, line, 64);\n    line[threadIdx.x / 2] = 1.0f;\n}",
        "written by two threads",
    ),
    "written_while_read": (
        """KERNEL(64) NAME(float* out) {
    SHARED(float, line, 64);
    const int t = threadIdx.x;
    line[t] = t;
    __syncthreads();
    out[t] = line[63 - t];
    line[t] = 0.0f;  // the next round begins without a barrier
}""",
        "while another thread reads it|while another thread writes it",
    ),
    "warps_apart": (
        """KERNEL(64) NAME(float* out) {
    SHARED(float, line, 64);
    const int t = threadIdx.x;
    line[t] = t;
    __syncwarp();  // orders a warp only
    out[t] = line[63 - t];
}""",
        "while another thread writes it|before it is written",
    ),
    "atomic_and_plain": (
        """KERNEL(64) NAME(float* out) {
    SHARED(float, total, 1);
    if (threadIdx.x == 0) total[0] = 0.0f;
    __syncthreads();
    atomicAdd(&total[0], 1.0f);
    out[threadIdx.x] = total[0];
}""",
        "while another thread reads it|while another thread writes it",
    ),
    "out_of_bounds": (
        "KERNEL(64) NAME(float* out) {\n    SHARED(float, line, 63);\n    line[threadIdx.x] = 1.0f;\n}",
        "line[63] is out of bounds (63)",
    ),
    "never_written": (
        "KERNEL(64) NAME(float* out) {\n    SHARED(float, line, 64);\n    out[threadIdx.x] = line[threadIdx.x];\n}",
        "read before it is written",
    ),
    "barrier_in_a_branch": (
        "KERNEL(64) NAME(float* out) {\n    if (threadIdx.x < 32) __syncthreads();\n    else __syncwarp();\n}",
        "__syncthreads after a thread has returned|wait for each other",
    ),
    "barrier_after_return": (
        "KERNEL(64) NAME(float* out) {\n    if (threadIdx.x < 5) return;\n    __syncthreads();\n}",
        "after a thread has returned",
    ),
    "shuffle_in_a_branch": (
        "KERNEL(64) NAME(float* out) {\n    if (threadIdx.x % 2) out[0] = __shfl_sync(ALL_LANES, 1.0f, 0);\n}",
        "after a lane has returned",
    ),
    "different_exchanges": (
        """KERNEL(64) NAME(float* out) {
    if (threadIdx.x % 2) __syncwarp();
    else __ballot_sync(ALL_LANES, 1);
}""",
        "meets",
    ),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """An emulator for one file with all faulty kernels."""
    folder = tmp_path_factory.mktemp("faulty")
    source = "\n".join(text.replace("NAME", fault) for fault, (text, _) in WRONG.items())
    (folder / "test.cu").write_text(PRELUDE + source)
    return Emulator(folder)


def run(folder, source: str, kernel: str, blocks: int, threads: int, *arguments) -> None:
    (folder / "test.cu").write_text(PRELUDE + source)
    Emulator(folder).launch("test", kernel, blocks, threads, *arguments)


def test_shared_memory_and_barriers(tmp_path):
    values, out = torch.arange(128.0), torch.zeros(128)
    run(tmp_path, RIGHT, "reverse", 2, 64, values, out)
    assert torch.equal(out, values.reshape(2, 64).flip(1).flatten())


def test_warp_exchanges_and_atomics(tmp_path):
    values, out = torch.arange(64.0), torch.zeros(65)
    run(tmp_path, WARP, "collect", 1, 64, values, out, 7.0)
    below = torch.cat([torch.tensor([7.0]), values[:31], torch.tensor([7.0]), values[32:63]])
    big = torch.tensor([0.0] * 32 + [32.0] * 32)
    assert torch.equal(out[:64], below + 1000 * big + 8) and float(out[64]) == float(values.sum())


def test_shared_atomics_and_votes(tmp_path):
    values, out = torch.arange(96.0) - 30, torch.zeros(2, dtype=torch.int32)
    run(tmp_path, COUNT, "count", 1, 96, values, out)
    assert out.tolist() == [65, 65]


@pytest.mark.parametrize("fault", WRONG)
def test_faults_are_caught(fault: str, faulty):
    with pytest.raises(EmulationError, match=f"{fault}: block 0") as caught:
        faulty.launch("test", fault, 1, 64, torch.zeros(64))
    assert any(word in str(caught.value) for word in WRONG[fault][1].split("|")), str(caught.value)


def test_names_of_kernels_behind_macros_are_found():
    macro = "#define M(N) \\\n    KERNEL(1) b##N(int x) {} \\\n    KERNEL(1) N(int x) {} \\\n\nM(7)\nM(8)\n"
    assert sorted(kernels("KERNEL(1) a(int x) {}\n" + macro)) == ["7", "8", "a", "b7", "b8"]
