"""Rate control: the settings that give the smallest file of a quality, or the best quality in a size."""

import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from splat import formats
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.compression.rate_control.judge import Judge
from splat.compression.rate_control.per_gaussian_precision import detail_of
from splat.errors import InputError
from splat.formats.splatz import container
from splat.formats.splatz.quantizer import Frame, Steps

# Quality of .splatz and SOG that is tried; ten halve the steps.
COARSEST, FINEST = 5.0, 105.0
ROUNDS = 5  # of closing in on the goal, after both ends
CLOSE = 0.1  # dB, or sixths of a factor of two in size: near enough to stop, unless the goal says


@dataclass(frozen=True)
class Trial:
    """One setting, written and judged.

    Attributes:
        gaussians, sh_degree: of the cloud that was written.
        quality: of .splatz and SOG; None for other formats.
        size: bytes. psnr: dB by the judge.
        data: the file. cloud: what a reader gets from it.
    """

    gaussians: int
    sh_degree: int
    quality: float | None
    size: int
    psnr: float
    data: bytes
    cloud: GaussianCloud

    def row(self) -> dict:
        """Plain numbers for tables and JSON."""
        return {name: getattr(self, name) for name in ("gaussians", "sh_degree", "quality", "size", "psnr")}


@dataclass(frozen=True)
class Goal:
    """What is wanted: at least ``psnr`` dB, or at most ``size`` bytes; the other is to be as good as it gets.

    Attributes:
        close: dB, or sixths of a factor of two in size, within which the search stops.
    """

    psnr: float | None = None
    size: int | None = None
    close: float = CLOSE

    def met(self, trial: Trial) -> bool:
        return trial.psnr >= self.psnr if self.psnr is not None else trial.size <= self.size

    def miss(self, trial: Trial) -> float:
        """How far ``trial`` lies on the fine side of the goal: dB, or its size in sixths of a factor of two."""
        if self.psnr is not None:
            return min(trial.psnr, 200.0) - self.psnr
        return 6 * math.log2(trial.size / self.size)

    def better(self, a: Trial, b: Trial) -> bool:
        """Whether ``a`` beats ``b``, both meeting the goal."""
        return a.size < b.size if self.psnr is not None else a.psnr > b.psnr


@dataclass(frozen=True)
class Codec:
    """A file format to end with, by the ending of ``path``."""

    path: Path
    antialiased: bool = False
    steps: Steps | None = None  # at the usual quality; None is what suits most clouds
    frame: Frame | None = None  # of .splatz, that the cloud was trained on; quality says nothing then

    @property
    def name(self) -> str:
        return formats.by_suffix(self.path).name

    @property
    def tunable(self) -> bool:
        """Whether the format has a quality; others are steered by leaving Gaussians and SH bands out."""
        return self.name in ("splatz", "sog")

    def steps_at(self, quality: float) -> Steps:
        """The steps of a file of ``quality``."""
        return (self.steps or Steps()).scaled(2.0 ** ((container.USUAL_QUALITY - quality) / 10))

    def trial(self, cloud: GaussianCloud, quality: float | None, judge: Judge) -> Trial:
        """Write ``cloud`` as the format does, read it back, judge it."""
        options = {}
        if quality is not None:
            steps = self.steps_at(quality)
            if self.name == "splatz":
                return self._coded(cloud, steps, quality, judge)
            # The finest is what the format can hold.
            options = {"quality": steps} if quality < FINEST else {}
        if "antialiased" in formats.by_suffix(self.path).options:
            options["antialiased"] = self.antialiased
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / self.path.name
            formats.write(cloud, file, **options)
            found, data = formats.read(file), file.read_bytes()
        return Trial(len(cloud), found.sh_degree, quality, len(data), judge.psnr(found), data, found)

    def _coded(self, cloud: GaussianCloud, steps: Steps, quality: float, judge: Judge) -> Trial:
        more = {"steps": steps, "frame": self.frame, "detail": detail_of(cloud)}
        data = container.encode(GaussianArrays.of(cloud), self.path, antialiased=self.antialiased, **more)
        found = container.decode(data, self.path).cloud()
        return Trial(len(cloud), found.sh_degree, quality, len(data), judge.psnr(found), data, found)


def search(
    candidates: Iterable[Callable[[float], Trial]],
    goal: Goal,
    knob: tuple[float, float],
    report: Callable[[Trial], None],
    guess: tuple[float, float] | None = None,
) -> Trial:
    """The best trial that meets the ``goal``.

    Args:
        candidates: each makes a trial at a position of the ``knob`` (smallest and coarsest … largest and finest).
        report: called with every trial.
        guess: a position to begin at, and by how much a step of one on the knob brings a trial nearer (see
            `Goal.miss`); None begins at the ends.

    Raises InputError naming the nearest trial when none meets the goal.
    """
    best: Trial | None = None
    nearest: Trial | None = None

    for candidate in candidates:

        def ask(position: float, candidate=candidate) -> float:
            nonlocal best, nearest
            trial = candidate(position)
            report(trial)
            best, nearest = _rank(trial, goal, best, nearest)
            return goal.miss(trial)

        place = _close_in(ask, knob, goal, guess)
        guess = guess and (place, guess[1])  # the next candidate will end up near
    if best is None:
        raise InputError(_unmet(goal, nearest))
    return best


def _close_in(ask: Callable[[float], float], knob: tuple[float, float], goal: Goal, guess) -> float:
    """Ask at positions ever nearer to where the miss is 0.

    Returns the last position asked.
    """
    above = goal.psnr is not None  # on this side of 0 the goal is met
    ends: list[float | None] = [None, None]  # the coarse and the fine one
    misses, place, last, stride = [0.0, 0.0], knob[1] if above else knob[0], knob[0], 0.0
    if guess is not None:
        place = guess[0]
    for _ in range(ROUNDS + 2):
        last, miss = place, ask(place)
        met = miss >= 0 if above else miss <= 0
        if met and abs(miss) < goal.close:
            break
        end = 1 if miss >= 0 else 0
        if place == knob[1 - end]:
            break  # even this end is beyond the goal
        ends[end], misses[end] = place, miss
        if ends[1 - end] is not None:
            share = misses[0] / (misses[0] - misses[1]) if misses[0] != misses[1] else 0.5
            place = ends[0] + min(max(share, 0.08), 0.92) * (ends[1] - ends[0])
            # Aim a little to the good side, so that the last word is one that counts.
            place += (1 if above else -1) * (knob[1] - knob[0]) * (0.001 if guess else 0.01)
        elif guess is None:
            place = knob[1 - end]
        else:
            # Near a ceiling the slope is far less than guessed, so that steps grow until the goal lies between.
            stride = max(abs(miss) / guess[1] + 0.5, 1.8 * stride)
            place = min(max(place + (-stride if end else stride), knob[0]), knob[1])
        if place == last:
            break
    return last


def _rank(trial: Trial, goal: Goal, best: Trial | None, nearest: Trial | None) -> tuple[Trial | None, Trial | None]:
    """The best trial that meets the goal and the nearest that does not, with one more seen."""
    if goal.met(trial):
        return (trial if best is None or goal.better(trial, best) else best), nearest
    return best, (trial if nearest is None or abs(goal.miss(trial)) < abs(goal.miss(nearest)) else nearest)


def _unmet(goal: Goal, nearest: Trial | None) -> str:
    if nearest is None:
        return "no setting could be tried; give another cloud or format"
    reached = f"the nearest is {nearest.psnr:.2f} dB in {nearest.size:,} bytes ({nearest.gaussians:,} Gaussians)"
    if goal.psnr is not None:
        return f"{goal.psnr:.2f} dB cannot be reached in this format; {reached}, so ask for less or for another format"
    return f"{goal.size:,} bytes cannot be reached in this format; {reached}, so ask for more or for another format"
