"""A `ViewEnhancer` from a diffusers pipeline: image to image, with a ControlNet where one is given, and inpainting.

LM-Gaussian (Yu et al. 2024) repairs with ControlNet-tile on Stable Diffusion 1.5 at strength 0.2, conditioned on the
picture to repair. diffusers is imported when an enhancer is loaded, never before.
"""

import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splat.depth.monocular import INSTALL, resized
from splat.errors import InputError

_GRAIN = 8  # pixels; pipelines want sides that are multiples of their latents' cells
_STATISTICS = 1e-3  # least standard deviation in the colour transfer


@dataclass(frozen=True, eq=False)
class DiffusersEnhancer:
    """Attributes:
    image: pipeline for whole pictures (img2img, plain or with a ControlNet).
    inpaint: pipeline that fills masks; None fills by ``image`` and keeps the rest.
    controlled: whether ``image`` takes a ``control_image``.
    prompt, strength, steps, guidance, control_scale: as the pipelines know them.
    side: shorter side at which the pipeline works, pixels; None leaves pictures as they are.
    """

    image: Any
    inpaint: Any | None = None
    controlled: bool = False
    prompt: str = "a photo"
    strength: float = 0.2
    steps: int = 50
    guidance: float = 1.0
    control_scale: float = 0.8
    side: int | None = None

    def __call__(self, image: Tensor, reference: Tensor | None, mask: Tensor | None, seed: int) -> Tensor:
        """See `ViewEnhancer`. Colours come out with the statistics of the input: diffusion shifts them."""
        height, width = image.shape[:2]
        tall, wide = self._size(height, width)
        picture = _chw(image, tall, wide)
        settings = {
            "prompt": self.prompt,
            "strength": self.strength,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "generator": torch.Generator("cpu").manual_seed(seed),
            "output_type": "pt",
        }
        with torch.no_grad():
            if mask is not None and self.inpaint is not None:
                hole = resized(mask.float(), tall, wide)[None, None] > 0.5
                output = self.inpaint(
                    image=picture, mask_image=hole.float(), height=tall, width=wide, **{**settings, "strength": 1.0}
                ).images
            elif self.controlled:
                output = self.image(
                    image=picture, control_image=picture, controlnet_conditioning_scale=self.control_scale, **settings
                ).images
            else:
                output = self.image(image=picture, **settings).images
        done = _hwc(output[0].float().cpu(), height, width)
        if mask is not None:
            return torch.where(mask[..., None], done, image)
        return same_colours(done, image)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        factor = 1.0 if self.side is None else self.side / min(height, width)
        return tuple(max(_GRAIN, round(each * factor / _GRAIN) * _GRAIN) for each in (height, width))


def same_colours(image: Tensor, like: Tensor) -> Tensor:
    """``image`` (H, W, 3) with the mean and standard deviation of each channel of ``like``, clamped to [0, 1]: adaptive
    instance normalisation (Huang & Belongie 2017) on colours."""
    mean, deviation = image.mean((0, 1)), image.std((0, 1)).clamp_min(_STATISTICS)
    return ((image - mean) / deviation * like.std((0, 1)) + like.mean((0, 1))).clamp(0, 1)


def load(model: str, control: str = "", prompt: str = "a photo", strength: float = 0.2, steps: int = 50):
    """The enhancer for ``model`` (hub name or folder), with the ControlNet ``control``. Raises InputError."""
    if importlib.util.find_spec("diffusers") is None:
        raise InputError(f"refinement by '{model}' needs the package diffusers; {INSTALL}")
    import diffusers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = {"torch_dtype": torch.float16 if device == "cuda" else torch.float32}
    try:
        if control:
            net = diffusers.ControlNetModel.from_pretrained(control, **kind)
            pipeline = diffusers.StableDiffusionControlNetImg2ImgPipeline.from_pretrained(
                model, controlnet=net, safety_checker=None, **kind
            )
        else:
            pipeline = diffusers.AutoPipelineForImage2Image.from_pretrained(model, **kind)
    except (OSError, ValueError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        missing = f"{model} {control}".strip()
        raise InputError(
            f"the weights {missing} cannot be loaded ({first}); fetch them with: hf download {model}, or give a folder"
        ) from error
    pipeline = pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    side = int(getattr(getattr(pipeline.unet, "config", None), "sample_size", 64)) * 8
    return DiffusersEnhancer(pipeline, None, bool(control), prompt, strength, steps, side=side)


def _chw(image: Tensor, height: int, width: int) -> Tensor:
    mode = {"mode": "bilinear", "align_corners": False}
    return torch.nn.functional.interpolate(image.permute(2, 0, 1)[None].float(), (height, width), **mode).clamp(0, 1)


def _hwc(picture: Tensor, height: int, width: int) -> Tensor:
    return _chw(picture.permute(1, 2, 0), height, width)[0].permute(1, 2, 0)
