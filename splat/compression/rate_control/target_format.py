"""The file format that compression ends with: a cloud is written at a quality, read back and measured."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from splat import formats
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.compression.finetuning.straight_through import detail_of
from splat.compression.rate_control.fidelity_metric import FidelityMetric
from splat.coordinates import AT_ZERO, Georeference
from splat.formats.splatz import container
from splat.formats.splatz.quantizer import QuantizationGrid, QuantizationSteps

# Quality of .splatz and SOG that is tried; ten halve the steps.
COARSEST, FINEST = 5.0, 105.0


@dataclass(frozen=True)
class Trial:
    """One setting, written, read back and measured.

    Attributes:
        gaussians, sh_degree: of the cloud that was written.
        quality: of .splatz and SOG; None for other formats.
        size: bytes. psnr: dB by the metric.
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
class TargetFormat:
    """A file format to end with.

    Attributes:
        path: whose ending names the format.
        antialiased: mark the file so.
        steps: at the usual quality; None is what suits most clouds.
        grid: of .splatz, that the cloud was trained on; quality says nothing then.
        keep_order: rows stay in their order where the format has a choice.
        place: where the cloud lies.
    """

    path: Path
    antialiased: bool = False
    steps: QuantizationSteps | None = None
    grid: QuantizationGrid | None = None
    keep_order: bool = False
    place: Georeference = AT_ZERO

    @property
    def name(self) -> str:
        """Name of the format."""
        return formats.by_suffix(self.path).name

    def _placed(self, cloud: GaussianCloud) -> GaussianCloud:
        """``cloud`` with the georeference that the file is to name."""
        return cloud.replace(georeference=self.place if self.holds_place else AT_ZERO)

    @property
    def holds_place(self) -> bool:
        """Whether the file says where in the world it lies, if that is anywhere but at zero."""
        return formats.by_suffix(self.path).holds_origin or not self.place.placed

    @property
    def tunable(self) -> bool:
        """Whether the format has a quality; others are steered by leaving Gaussians and SH bands out."""
        return formats.by_suffix(self.path).has_quality

    def steps_at(self, quality: float) -> QuantizationSteps:
        """The steps of a file of ``quality``."""
        return (self.steps or QuantizationSteps()).at_quality(quality)

    def trial(self, cloud: GaussianCloud, quality: float | None, metric: FidelityMetric) -> Trial:
        """Write ``cloud`` as the format does, read it back, measure it."""
        cloud, options = self._placed(cloud), {}
        if quality is not None:
            steps = self.steps_at(quality)
            if self.name == "splatz":
                return self._splatz_trial(cloud, steps, quality, metric)
            # The finest is what the format can hold.
            options = {"quality": steps} if quality < FINEST else {}
        known = formats.by_suffix(self.path).options
        if "antialiased" in known:
            options["antialiased"] = self.antialiased
        if self.keep_order and "reorder" in known:
            options["reorder"] = False
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / self.path.name
            formats.write(cloud, file, **options)
            result, data = formats.read(file), file.read_bytes()
        return Trial(len(cloud), result.sh_degree, quality, len(data), metric.psnr(result), data, result)

    def _splatz_trial(
        self, cloud: GaussianCloud, steps: QuantizationSteps, quality: float, metric: FidelityMetric
    ) -> Trial:
        more = {"quality": steps, "grid": self.grid, "detail": detail_of(cloud)}
        data = container.encode(GaussianArrays.of(cloud), self.path, antialiased=self.antialiased, **more)
        result = container.decode(data, self.path).cloud()
        return Trial(len(cloud), result.sh_degree, quality, len(data), metric.psnr(result), data, result)
