"""Few photos: the preset `sparse` against plain training, and each of its parts alone; tables for docs/sparse.md.

    python tools/bench_sparse.py DATA [--results results.json] [--only main] [--views 3 6 12] [--scenes fox …]

DATA holds the scene folders. Results are kept in the JSON file as they come; a run that is in it is not repeated.
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
    from splat.training import config

    return config.preset(name)


def plain(strategy="adc", **changes):
    """Default settings with ``strategy``, changed as named: "section__field" or "field"."""
    from splat.training.config import TrainConfig

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
    "preset few": lambda: changed(preset("few")),
}
ALONE = {
    "plain ADC + dense points": lambda: plain(priors__dense=True),
    "plain ADC + dense and guessed points": lambda: plain(priors__dense=True, priors__guess=11),
    "plain ADC + mean background": lambda: plain(priors__mean_background=True),
    "plain ADC + dropout": lambda: plain(priors__dropout=0.3),
    "plain ADC + no growth": lambda: plain(adc__gradient=1e9),
    "plain ADC + SH degree 0": lambda: plain(sh_degree=0),
    "plain ADC + no weights on opacity and size": lambda: plain(adc__opacity_weight=0.0, adc__scale_weight=0.0),
}
WITHOUT = {
    "sparse − dense points": lambda: sparse(priors__dense=False),
    "sparse − guessed points": lambda: sparse(priors__guess=0),
    "sparse − mean background": lambda: sparse(priors__mean_background=False),
    "sparse − dropout": lambda: sparse(priors__dropout=0.0),
    "sparse, with growth": lambda: sparse(adc__gradient=2e-4),
    "sparse, rates that do not fall": lambda: sparse(rates__final=1.0),
    "sparse, SH degree 3": lambda: sparse(sh_degree=3),
    "sparse, weights on opacity and size": lambda: sparse(adc__opacity_weight=0.01, adc__scale_weight=0.01),
}
OPTIONS = {
    "sparse + depth correlation (stereo)": lambda: sparse(priors__depth=0.05),
    "sparse + normals (stereo)": lambda: sparse(priors__normal=0.02),
    "sparse + virtual views": lambda: sparse(priors__virtual=0.3),
    "sparse + floater removal": lambda: sparse(priors__floaters=0.2),
    "sparse + proximity": lambda: sparse(priors__proximity=0.1),
    "sparse + partner model": lambda: sparse(priors__partner=0.3),
    "sparse + confidence rates": lambda: sparse(priors__confidence_rates=True),
}
GROUPS = {"main": MAIN, "alone": ALONE, "without": WITHOUT, "options": OPTIONS}


def measure(data: Path, scene: str, views: int, config) -> dict:
    """Train once; scores of the held-out views."""
    from splat.scene import Scene
    from splat.scene.choose import keep_views
    from splat.training import train

    chosen = keep_views(Scene.load(data / scene, downscale=DOWNSCALE, progress=False), views)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--results", type=Path, default=Path("bench_sparse.json"))
    parser.add_argument("--only", nargs="*", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--scenes", nargs="*", default=list(SCENES))
    parser.add_argument("--views", nargs="*", type=int, default=list(VIEWS))
    parser.add_argument("--rows", nargs="*", help="only rows that contain one of these words")
    options = parser.parse_args()
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    makers = {name: make for group in options.only for name, make in GROUPS[group].items()}
    if options.rows:
        makers = {name: make for name, make in makers.items() if any(word in name for word in options.rows)}
    for count in options.views:
        for name, make in makers.items():
            for scene in options.scenes:
                key = f"{scene}/{count}/{name}"
                if key in results:
                    continue
                results[key] = measure(options.data, scene, count, make())
                print(key, results[key], flush=True)
                temporary = options.results.with_suffix(".part")
                temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False))
                os.replace(temporary, options.results)
    print(table(results, [name for group in GROUPS.values() for name in group], options.scenes, options.views))


if __name__ == "__main__":
    main()
