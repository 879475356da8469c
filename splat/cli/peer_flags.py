"""What other tools of the field call an option of ``splat train``: who types theirs is told ours."""

from collections.abc import Sequence

from splat.errors import InputError

_INRIA, _GSPLAT, _NERFSTUDIO, _BRUSH = "Inria's 3DGS", "gsplat", "nerfstudio", "Brush"
_OPENSPLAT, _LICHTFELD, _POSTSHOT = "OpenSplat", "LichtFeld Studio", "Postshot"
_MANY = "other tools"
SCENE = "SCENE"

# Ours: theirs, without the hyphens in front, and whose they are. Words after ours are the value that it needs.
_TABLE: dict[str, dict[str, str]] = {
    SCENE: {
        "s": _INRIA, "source-path": _INRIA, "data": _NERFSTUDIO, "data-dir": _GSPLAT, "data-path": _LICHTFELD,
        "input": _MANY, "dataset": _MANY, "scene": _MANY, "import": _POSTSHOT,
    },
    "--out": {
        "m": _INRIA, "model-path": _INRIA, "output-dir": _NERFSTUDIO, "result-dir": _GSPLAT, "output": _OPENSPLAT,
        "o": _OPENSPLAT, "output-path": _LICHTFELD, "export-path": _BRUSH, "out-dir": _MANY, "results": _MANY,
    },
    "--steps": {
        "iterations": _INRIA, "max-steps": _GSPLAT, "max-num-iterations": _NERFSTUDIO, "total-steps": _BRUSH,
        "num-iters": _OPENSPLAT, "n": _OPENSPLAT, "i": _LICHTFELD, "iter": _LICHTFELD, "train-steps-limit": _POSTSHOT,
        "num-iterations": _MANY, "iters": _MANY, "max-iterations": _MANY, "num-steps": _MANY, "total-iterations": _MANY,
    },
    "--downscale": {
        "r": _INRIA, "resolution": _INRIA, "data-factor": _GSPLAT, "downscale-factor": _OPENSPLAT, "d": _OPENSPLAT,
        "resize-factor": _LICHTFELD, "factor": _MANY, "downsample": _MANY,
    },
    "--max-side": {
        "max-resolution": _BRUSH, "max-width": _LICHTFELD, "max-image-size": _POSTSHOT, "max-size": _MANY,
        "image-size": _MANY,
    },
    "--gaussians": {
        "strategy.cap-max": _GSPLAT, "cap-max": _GSPLAT, "max-splats": _BRUSH, "max-cap": _LICHTFELD,
        "max-num-splats": _POSTSHOT, "max-gaussians": _MANY, "num-gaussians": _MANY,
    },
    "--hold-out 8": {"eval": _INRIA},
    "--hold-out": {
        "llffhold": _INRIA, "test-every": _GSPLAT, "eval-split-every": _BRUSH, "val": _OPENSPLAT, "test-split": _MANY,
        "eval-interval": _MANY,
    },
    "--resume": {"start-checkpoint": _INRIA, "ckpt": _GSPLAT, "load-dir": _NERFSTUDIO, "load-checkpoint": _NERFSTUDIO},
    "--checkpoint-seconds": {
        "checkpoint-iterations": _INRIA, "save-iterations": _INRIA, "save-steps": _GSPLAT, "save-every": _OPENSPLAT,
        "steps-per-save": _NERFSTUDIO, "export-every": _BRUSH,
    },
    "--eval-every": {
        "test-iterations": _INRIA, "eval-steps": _GSPLAT, "steps-per-eval-all-images": _NERFSTUDIO,
    },
    "--background 1 1 1": {"white-background": _INRIA, "w": _INRIA},
    "--random-background": {"random-bkgd": _GSPLAT},
    "--antialiased": {"antialiasing": _INRIA},
    "--appearance.exposure": {"train-test-exp": _INRIA},
    "--appearance.features 4": {"app-opt": _GSPLAT},
    "--appearance.bilateral-grid": {"use-bilateral-grid": _GSPLAT, "bilateral-grid": _LICHTFELD},
    "--pose.refine": {"pose-opt": _GSPLAT},
    "--backend": {"data-device": _INRIA, "device": _MANY, "gpu": _MANY},
    "--view": {"with-viewer": _BRUSH, "vis": _NERFSTUDIO, "viewer": _MANY, "gui": _MANY},
    "--host": {"ip": _INRIA},
    "--preset": {"config-name": _MANY, "profile": _POSTSHOT},
    "--masks ignore": {"invert-masks": _LICHTFELD},
    "--masks": {"mask-mode": _LICHTFELD},
    "--loss.ssim": {"lambda-dssim": _INRIA, "ssim-lambda": _GSPLAT, "ssim-weight": _OPENSPLAT},
    "--loss.depth": {"depth-lambda": _GSPLAT, "depth-l1-weight-init": _INRIA},
    "--densify.gradient": {
        "densify-grad-threshold": _INRIA, "densify-grad-thresh": _OPENSPLAT, "strategy.grow-grad2d": _GSPLAT,
    },
    "--densify.every": {"densification-interval": _INRIA, "refine-every": _OPENSPLAT},
    "--densify.start": {"densify-from-iter": _INRIA, "warmup-length": _OPENSPLAT},
    "--densify.stop": {"densify-until-iter": _INRIA},
    "--adc.reset-every": {"opacity-reset-interval": _INRIA, "reset-alpha-every": _OPENSPLAT},
    "--rates.means": {"position-lr-init": _INRIA, "means-lr": _GSPLAT},
    "--rates.means-final": {"position-lr-final": _INRIA},
    "--rates.sh-dc": {"feature-lr": _INRIA, "sh0-lr": _GSPLAT},
    "--rates.opacities": {"opacity-lr": _INRIA, "opacities-lr": _GSPLAT},
    "--rates.scales": {"scaling-lr": _INRIA, "scales-lr": _GSPLAT},
    "--rates.quats": {"rotation-lr": _INRIA, "quats-lr": _GSPLAT},
}  # fmt: skip
PEERS = {theirs: (ours, whose) for ours, flags in _TABLE.items() for theirs, whose in flags.items()}


def check(arguments: Sequence[str]) -> None:
    """Raise InputError, with what to type instead, for the first of ``arguments`` that is a flag of another tool."""
    for index, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        name = flag.lstrip("-").replace("_", "-")
        single = not flag.startswith("--")
        if not flag.startswith("-") or name not in PEERS or single != (len(name) == 1):
            continue
        ours, whose = PEERS[name]
        if not equals and index + 1 < len(arguments) and not arguments[index + 1].startswith("-"):
            value = arguments[index + 1]
        if ours == SCENE:
            raise InputError(
                f"{flag} is an option of {whose}; here the scene needs none: did you mean splat train {value or SCENE}?"
            )
        takes_value = " " not in ours and ours not in _FLAGS
        raise InputError(
            f"{flag} is an option of {whose}; did you mean {ours}{f' {value}' if value and takes_value else ''}?"
        )


_FLAGS = ("--resume", "--random-background", "--antialiased", "--view", "--pose.refine", "--appearance.exposure",
          "--appearance.bilateral-grid")  # fmt: skip
