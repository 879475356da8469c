"""Few photos: the presets against plain training, and every part by itself; tables for docs/measurements/sparse.md.

    python tools/bench_sparse.py DATA [--views 3 6 12]  # the presets `sparse` (3, 6) and `few` (12) against plain ones
    python tools/bench_sparse.py DATA --ablate  # each part added to plain training, taken from `sparse`, or added to it

DATA holds the scene folders. Results are kept in a JSON file as they come; a run that is in it is not repeated.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

SCENES = ("fox", "kitchen24", "brighton_beach")
VIEWS = (3, 6, 12)
DOWNSCALE = 4
PLAIN_STEPS = 1500
GAUSSIANS = 60_000


def preset(name):
    from splat.training.config import config

    return config.preset(name)


def plain(strategy="adc", **changes):
    """Default settings with ``strategy``, changed as named: "section__field" or "field"."""
    from splat.training.config.config import TrainConfig

    return changed(TrainConfig(steps=PLAIN_STEPS, strategy=strategy), **changes)


def sparse(**changes):
    """The preset, changed likewise."""
    return changed(preset("sparse"), **changes)


def changed(config, **changes):
    for name, value in {"gaussians": GAUSSIANS, "eval_every": 0.0, **changes}.items():
        section, _, item = name.rpartition("__")
        new = replace(getattr(config, section), **{item: value}) if section else value
        config = replace(config, **{section or item: new})
    return config


MAIN = {
    "plain ADC": lambda: plain("adc"),
    "plain MCMC": lambda: plain("mcmc"),
    "preset sparse": lambda: sparse(),
    "plain ADC, as long as few": lambda: plain("adc", steps=preset("few").steps),
    "plain MCMC, as long as few": lambda: plain("mcmc", steps=preset("few").steps),
    "preset few": lambda: changed(preset("few")),
}
FEW = 8  # photos up to which the command line takes `sparse`, then `few`
ELSEWHERE = {  # rows of more, and of fewer photos
    False: tuple(name for name in MAIN if "few" in name),
    True: ("preset sparse",),
}
ALONE = {
    "plain ADC + dense points": lambda: plain(priors__dense=True),
    "plain ADC + dense and completed points": lambda: plain(priors__dense=True, priors__completion=10),
    "plain ADC + mean background": lambda: plain(priors__mean_background=True),
    "plain ADC + dropout": lambda: plain(priors__dropout=0.3),
    "plain ADC + no growth": lambda: plain(densify__gradient=1e9),
    "plain ADC + rates that fall": lambda: plain(rates__final=0.1),
    "plain ADC + SH degree 0": lambda: plain(sh_degree=0),
    "plain ADC + no weights on opacity and size": lambda: plain(densify__opacity_weight=0.0, densify__scale_weight=0.0),
}
WITHOUT = {
    "sparse − dense points": lambda: sparse(priors__dense=False),
    "sparse − completed points": lambda: sparse(priors__completion=0),
    "sparse − mean background": lambda: sparse(priors__mean_background=False),
    "sparse − dropout": lambda: sparse(priors__dropout=0.0),
    "sparse, with growth": lambda: sparse(densify__gradient=2e-4),
    "sparse, rates that do not fall": lambda: sparse(rates__final=1.0),
    "sparse, SH degree 3": lambda: sparse(sh_degree=3),
    "sparse, weights on opacity and size": lambda: sparse(densify__opacity_weight=0.01, densify__scale_weight=0.01),
}
OPTIONS = {
    "sparse + depth correlation (stereo)": lambda: sparse(priors__depth=0.05),
    "sparse + normals (stereo)": lambda: sparse(priors__normal=0.02),
    "sparse + pseudo views": lambda: sparse(priors__pseudo_views=0.3),
    "sparse + floater removal": lambda: sparse(priors__floaters=0.2),
    "sparse + proximity": lambda: sparse(priors__proximity=0.1),
    "sparse + co-regularization": lambda: sparse(priors__co_regularization=0.3),
    "sparse + confidence rates": lambda: sparse(priors__confidence_rates=True),
}
ABLATION = {"plain ADC": ALONE, "preset sparse": WITHOUT | OPTIONS}
"""What each part's row is compared with."""


def measure(data: Path, scene: str, views: int, config) -> dict:
    """Train once; scores of the held-out views."""
    from splat.runs.train import train
    from splat.scene import load_scene
    from splat.scene.subset import keep_views

    chosen = keep_views(load_scene(data / scene, downscale=DOWNSCALE, progress=False), views)
    start = time.process_time()
    metrics = train(chosen, config).metrics
    return {
        "psnr": metrics["psnr"],
        "ssim": metrics["ssim"],
        "gaussians": metrics["gaussians"],
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def table(results: dict, rows: list[str], scenes: list[str], views: list[int]) -> str:
    """Markdown: mean PSNR and SSIM over ``scenes`` by number of views; a dash where a run is missing."""
    lines = ["| | " + " | ".join(f"{n} photos" for n in views) + " |", "|---|" + "---|" * len(views)]
    for row in rows:
        cells = []
        for count in views:
            found = [results.get(f"{scene}/{count}/{row}") for scene in scenes]
            if any(each is None for each in found):
                cells.append("–")
                continue
            psnr, ssim = (sum(each[name] for each in found) / len(found) for name in ("psnr", "ssim"))
            cells.append(f"{psnr:.2f} dB, {ssim:.3f}")
        if any(cell != "–" for cell in cells):
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ablation(results: dict, rows: list[str], base: str, scenes: list[str], views: int) -> str:
    """Markdown: PSNR by scene, and mean PSNR and SSIM with their difference from those of ``base``."""
    lines = [f"| {views} photos | " + " | ".join(scenes) + " | mean | | SSIM | |", "|---|" + "---|" * (len(scenes) + 4)]
    for row in (base, *rows):
        found, bases = ([results.get(f"{scene}/{views}/{name}") for scene in scenes] for name in (row, base))
        if any(each is None for each in found + bases):
            continue
        cells = [f"{each['psnr']:.2f}" for each in found]
        for name, digits in (("psnr", 2), ("ssim", 3)):
            mean, before = (sum(each[name] for each in those) / len(scenes) for those in (found, bases))
            cells += [f"{mean:.{digits}f}", "" if row == base else f"{mean - before:+.{digits}f}".replace("-", "−")]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--views", nargs="*", type=int, help="3 6 12, or with --ablate 3")
    parser.add_argument("--scenes", nargs="*", default=list(SCENES))
    parser.add_argument("--rows", nargs="*", help="only rows that contain one of these words")
    parser.add_argument("--results", type=Path, default=Path("bench_sparse.json"))
    options = parser.parse_args()
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    counts = options.views or ([3] if options.ablate else VIEWS)
    for count in counts:
        makers = {name: make for name, make in MAIN.items() if name not in ELSEWHERE[count > FEW]}
        if options.ablate:
            makers = {name: MAIN[name] for name in ABLATION}
            makers |= {name: make for group in ABLATION.values() for name, make in group.items()}
        for name, make in makers.items():
            if options.rows and not any(word in name for word in options.rows):
                continue
            for scene in options.scenes:
                key = f"{scene}/{count}/{name}"
                if key in results:
                    continue
                results[key] = measure(options.data, scene, count, make())
                print(key, results[key], flush=True)
                temporary = options.results.with_suffix(".part")
                temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False))
                os.replace(temporary, options.results)
    if options.ablate:
        for count in counts:
            for base, group in ABLATION.items():
                print(ablation(results, list(group), base, options.scenes, count), end="\n\n")
    else:
        print(table(results, list(MAIN), options.scenes, counts))


if __name__ == "__main__":
    main()
