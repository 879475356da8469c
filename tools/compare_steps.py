"""Whole training steps of two source trees against each other, in turns of a few steps, so that both meet the same machine.

Each tree resumes a copy of one run in a process of its own and waits while the other one works. Printed: the median
time of a step in each tree, and the median over the rounds of before / after (above 1: the second tree is faster).

    python tools/compare_steps.py ../before . --run runs/fox --scene data/fox --rounds 30
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WARM_UP = 2  # rounds left out: pages are still being mapped, the cache of photos filled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="source tree with its .venv")
    parser.add_argument("after", type=Path, help="source tree with its .venv")
    parser.add_argument("--run", type=Path, required=True, help="run folder with a checkpoint to go on from")
    parser.add_argument("--scene", type=Path, required=True, help="the scene of that run")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each tree")
    parser.add_argument("--steps", type=int, default=4, help="steps a turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trees = [options.before.resolve(), options.after.resolve()]
        workers = [start(tree, Path(folder) / str(i), options) for i, tree in enumerate(trees)]
        try:
            seconds = [[turn(worker) for worker in order(workers, r)][:: 1 if r % 2 == 0 else -1]
                       for r in range(WARM_UP + options.rounds)][WARM_UP:]  # fmt: skip
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    before, after = ([pair[i] / options.steps for pair in seconds] for i in (0, 1))
    ratios = sorted(b / a for b, a in zip(before, after, strict=True))
    print(f"before {1e3 * statistics.median(before):.1f} ms, after {1e3 * statistics.median(after):.1f} ms a step")
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    print(f"speed after / before: {statistics.median(ratios):.3f}× (middle half of the rounds {low:.3f} to {high:.3f})")


def order(workers: list, round_: int) -> list:
    """Who goes first changes from round to round."""
    return workers if round_ % 2 == 0 else workers[::-1]


def start(tree: Path, folder: Path, options: argparse.Namespace) -> subprocess.Popen:
    """A process that resumes the run with ``tree`` and stops before each turn."""
    shutil.copytree(options.run, folder)
    command = [tree / ".venv" / "bin" / "python", Path(__file__).resolve(), "--worker"]
    command += [str(folder), str(options.scene.resolve()), str(options.steps)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tree)


def turn(worker: subprocess.Popen) -> float:
    """Seconds of one turn. Exits when the worker has ended."""
    worker.stdin.write("go\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("turn "):
            return json.loads(line[5:])
    sys.exit(f"a worker ended (exit {worker.wait()}); what it said is above")


def work(folder: str, scene: str, steps: int) -> None:
    """The worker: every step waits for its turn and is timed."""
    import time

    from splat.training import trainer

    step, state = trainer.step, {"left": 0, "seconds": 0.0}
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def timed(*arguments: object) -> None:
        if state["left"] == 0 and not sys.stdin.readline():
            os._exit(1)
        state["left"] = state["left"] or steps
        start = time.perf_counter()
        step(*arguments)
        state["seconds"] += time.perf_counter() - start
        state["left"] -= 1
        if state["left"] == 0:
            channel.write(f"turn {state['seconds']}\n")
            channel.flush()
            state["seconds"] = 0.0

    for module in list(sys.modules.values()) + [trainer]:
        if getattr(module, "__name__", "").startswith("splat") and getattr(module, "step", None) is step:
            module.step = timed
    from splat.cli import main as splat

    sys.argv = ["splat"]
    splat(["train", scene, "--out", folder, "--resume"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
