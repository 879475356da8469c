"""Which tests are near which core module, the quickest first; tools/mutate.py runs them on each mutant.

Left out of the C++ core: benchmark.cpp and self_test.cpp, which measure and check it; probe.cpp, whose answer depends
on the machine; simd.h, of which one instruction set in four is compiled.
"""

_FORMULAS, _CALLS = "tests/test_formulas.py", "tests/rendering/test_odd_calls.py"
_STRATEGIES, _DEFORMATIONS = "tests/training/strategies/test_strategies.py", "tests/training/hooks/test_deformations.py"
_GROWTH = "tests/training/strategies/test_budgeted_growth.py"
_FORMATS, _FORMAT_DAMAGE = "tests/formats/test_formats_round_trip.py", "tests/formats/test_formats_damage.py"
_HOSTILE, _PALETTE = "tests/formats/test_hostile_files.py", "tests/formats/test_formats_palette.py"
_CODING = "tests/coding/test_small_parts.py"
_COLMAP = ("tests/scene/test_colmap.py", "tests/scene/test_colmap_damage.py")
_TRANSFORMS = ("tests/scene/test_transforms_json.py", "tests/scene/test_transforms_damage.py")
_PATHS = ("tests/viewpoints/test_paths.py", "tests/viewpoints/test_path_files.py")
_REFERENCE = ("tests/rendering/test_reference.py", "tests/rendering/test_agreement.py", _FORMULAS)
_RENDERING = ("tests/rendering/test_agreement.py", "tests/rendering/test_cpu.py", _CALLS, "-k", "not reference")

# Left out, because they take long and look at other formats or at whole runs.
SLOW = (
    "tests/compression/test_methods.py::test_networks_learn_attributes_that_depend_on_place",
    "tests/formats/test_formats_damage.py::test_damaged_files[splatz]",
    "tests/formats/test_formats_damage.py::test_damaged_usd_ends_no_process",
    "tests/formats/test_formats_damage.py::test_usd_may_take_what_its_files_can_claim",
    "tests/formats/test_formats_round_trip.py::test_usd_keeps_float_precision",
    "tests/formats/test_formats_round_trip.py::test_usd_through_a_process_of_its_own",
    "tests/formats/test_hostile_files.py::test_what_is_written_of_equal_gaussians_is_read[b.splatz-options4]",
    "tests/priors/test_few_photos.py::test_all_parts_together_resume_bit_for_bit",
    "tests/priors/test_few_photos.py::test_the_preset_trains_and_repeats_itself",
    "tests/rendering/test_reference.py::test_every_gradient_equals_finite_differences",
    "tests/rendering/test_reference.py::test_memory_stays_bounded_by_splitting_blocks",
    "tests/rendering/test_reference.py::test_screen_gradients_are_sums_of_each_pixels_share",
    "tests/training/hooks/test_surface_regularizers.py::test_a_run_with_the_preset_makes_flatter_gaussians",
    "tests/training/test_appearance.py::test_exposures_recover_gains_without_a_colour_cast",
)
TESTS: dict[str, tuple[str, ...]] = {
    "splat/cloud.py": ("tests/test_cloud.py", _CALLS),
    "splat/camera.py": ("tests/test_camera.py", _FORMULAS, _CALLS),
    "splat/metrics.py": ("tests/test_metrics.py", _FORMULAS),
    "splat/sh_basis.py": ("tests/test_cloud.py", "tests/rendering/test_reference.py"),
    "splat/formats/ply/ply.py": (_FORMATS, _FORMAT_DAMAGE),
    "splat/formats/ply/header.py": (_FORMATS, _FORMAT_DAMAGE),
    "splat/formats/ply/compressed.py": (_FORMATS, _FORMAT_DAMAGE),
    "splat/formats/spz/spz.py": (_FORMATS, "tests/formats/test_formats_others.py", _FORMAT_DAMAGE),
    "splat/formats/spz/quantizer.py": (_FORMATS, "tests/formats/test_formats_others.py"),
    "splat/formats/sog/encode.py": (_FORMATS, _PALETTE),
    "splat/formats/sog/read.py": (_FORMATS, _FORMAT_DAMAGE),
    "splat/formats/sog/meta.py": (_FORMATS, "tests/formats/test_formats_others.py", _FORMAT_DAMAGE),
    "splat/formats/sog/bundle.py": (_FORMATS, _FORMAT_DAMAGE),
    "splat/formats/sog/quantizer.py": (_FORMATS, "tests/formats/test_sog_quality.py"),
    "splat/formats/ksplat.py": (_FORMATS, _FORMAT_DAMAGE),
    "splat/formats/dotsplat.py": (_FORMATS, _FORMAT_DAMAGE),
    "splat/coding/attributes.py": (_FORMATS,),
    "splat/coding/decimate.py": (_PALETTE,),
    "splat/coding/deflate.py": (_CODING, _FORMATS, _HOSTILE),
    "splat/coding/importance.py": (_CODING, _FORMATS, _PALETTE),
    "splat/coding/limits.py": (
        _CODING,
        _HOSTILE,
    ),
    "splat/coding/morton.py": (
        _CODING,
        _FORMATS,
    ),
    "splat/coding/neighbours.py": (_CODING, _FORMATS, _HOSTILE),
    "splat/coding/octree.py": (
        "tests/coding/test_octree.py",
        "tests/formats/test_splatz.py",
    ),
    "splat/coding/rans.py": (
        "tests/coding/test_rans.py",
        "tests/formats/test_splatz.py",
    ),
    "splat/coding/rans_tables.py": ("tests/formats/test_splatz.py",),
    "splat/coding/safetensors.py": ("tests/training/test_checkpoint.py",),
    "splat/coding/scalar_kmeans.py": (_PALETTE,),
    "splat/coding/vector_kmeans.py": (_PALETTE,),
    "splat/scene/readers/colmap.py": _COLMAP,
    "splat/scene/readers/colmap_model.py": _COLMAP,
    "splat/scene/readers/colmap_text.py": _COLMAP,
    "splat/scene/readers/colmap_binary.py": _COLMAP,
    "splat/scene/readers/colmap_parts.py": _COLMAP,
    "splat/scene/readers/transforms_json.py": _TRANSFORMS,
    "splat/scene/readers/sparse_ply.py": _TRANSFORMS,
    "splat/viewpoints/paths.py": _PATHS,
    "splat/viewpoints/splines.py": _PATHS,
    "splat/training/checkpoint.py": ("tests/training/test_checkpoint.py",),
    "splat/training/checkpoint_schema.py": ("tests/training/test_checkpoint.py",),
    "splat/training/schedules.py": ("tests/training/test_schedules.py", _FORMULAS, _CALLS),
    "splat/training/population.py": ("tests/training/test_population.py", _CALLS),
    "splat/training/update.py": (_FORMULAS, "tests/training/test_fitter.py"),
    "splat/training/fitter.py": ("tests/training/test_fitter.py", "tests/training/test_whole_runs.py"),
    "splat/training/weight_averaging.py": ("tests/training/test_weight_averaging.py",),
    "splat/training/initialize.py": ("tests/training/test_initialize.py",),
    "splat/training/strategies/adc.py": (_STRATEGIES,),
    "splat/training/strategies/taming.py": (_GROWTH, _STRATEGIES, _FORMULAS),
    "splat/training/strategies/turbo.py": (_GROWTH, _STRATEGIES),
    "splat/training/strategies/splitting.py": (_FORMULAS, _STRATEGIES, _GROWTH),
    "splat/training/strategies/mcmc.py": (_STRATEGIES,),
    "splat/training/hooks/ges.py": (_FORMULAS, _DEFORMATIONS),
    "splat/training/hooks/mip_filter.py": (_FORMULAS, _DEFORMATIONS),
    "splat/training/hooks/dropout.py": (_FORMULAS, "tests/priors/test_few_photos.py"),
    "splat/training/losses/image.py": ("tests/training/test_fitter.py", "tests/training/test_appearance.py"),
    "splat/training/losses/surface.py": (_FORMULAS, "tests/training/hooks/test_surface_regularizers.py"),
    "splat/training/losses/sparse_depth.py": (_FORMULAS, "tests/training/test_pose_depth.py"),
    "splat/training/per_photo/bilateral_grid.py": (_FORMULAS, "tests/training/test_appearance.py"),
    "splat/training/per_photo/pose.py": ("tests/training/test_pose_depth.py",),
    "splat/compression/methods/significance.py": (_FORMULAS, "tests/compression/test_methods.py"),
    "splat/ops/adam.py": ("tests/ops/test_adam.py", _FORMULAS, _CALLS),
    "splat/ops/mcmc_noise.py": ("tests/ops/test_mcmc.py", _CALLS),
    "splat/ops/mcmc_relocation.py": ("tests/ops/test_mcmc.py", _CALLS),
    "splat/ops/photometric_loss.py": ("tests/ops/test_photometric_loss.py", _CALLS),
    "splat/native/cpu_library.py": ("tests/native/test_cpu_library.py", _CALLS),
    "splat/rendering/reference.py": _REFERENCE,
    "splat/rendering/cpu.py": _RENDERING,
    "cpu/adam.cpp": ("tests/ops/test_adam.py", _FORMULAS, _CALLS),
    "cpu/binning.cpp": _RENDERING,
    "cpu/blending.cpp": _RENDERING,
    "cpu/gaussian_backward.cpp": _RENDERING,
    "cpu/grid_sort.cpp": ("tests/compression/test_self_organizing_grid.py", _CALLS),
    "cpu/image_loss.cpp": ("tests/ops/test_photometric_loss.py", _CALLS),
    "cpu/mcmc.cpp": ("tests/ops/test_mcmc.py", _CALLS),
    "cpu/projection.cpp": _RENDERING,
    "cpu/rasterizer.cpp": _RENDERING,
    "cpu/thread_pool.cpp": ("tests/native/test_cpu_library.py", _CALLS),
    "cpu/tile_blocks.cpp": _RENDERING,
    "cpu/adam.h": ("tests/ops/test_adam.py", _FORMULAS),
    "cpu/blending.h": _RENDERING,
    "cpu/columns.h": _RENDERING,
    "cpu/quads.h": _RENDERING,
    "cpu/random.h": ("tests/ops/test_mcmc.py",),
    "cpu/reduce.h": _RENDERING,
    "cuda/math/base.h": _RENDERING,
    "cuda/math/blending.h": _RENDERING,
    "cuda/math/projection.h": _RENDERING,
    "cuda/math/sh.h": _RENDERING,
}
