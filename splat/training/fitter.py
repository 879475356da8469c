"""`Fitter`: the one step that everything which optimises a cloud is built on.

Render the views, compare, pull the gradients back, move the Gaussians by Adam, let hooks edit the rows. Training, its
batches and second models, and fine-tuning in compression call it; views come from any source, the loss is a function.

    import torch, splat
    from splat.ops.adam import AdamHyper
    from splat.rendering.backends import choose_backend
    from splat.scene.images import Photo
    from splat.training.fitter import Fitter
    from splat.training.population import populate
    from splat.training.training_view import TrainingView

    cloud = splat.read("cloud.ply")
    population = populate(cloud)
    fitter = Fitter(population, choose_backend(cloud))
    view = TrainingView(None, Photo(picture), camera, background=(0.0, 0.0, 0.0))  # picture: (H, W, 3) uint8
    for step in range(100):
        hyper = AdamHyper(step + 1, 1e-4, log_scales=5e-3, quats=1e-3, logit_opacities=5e-2, sh_dc=2e-3, sh_rest=1e-4)
        (loss,) = fitter.step([view], hyper)
        print(loss.loss)
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.ops.adam import AdamHyper
from splat.rendering import Backend
from splat.rendering.types import Rendering, RenderOptions
from splat.training.frozen import of_first_rows, with_frozen
from splat.training.hooks.chain_rule import Pullback, deform_with_pullback
from splat.training.hooks.dropout import gaussian_dropout, scale_position_step
from splat.training.hooks.hook import TrainingHook, add_penalties, needs
from splat.training.losses.image import Loss, PictureLoss, photometric
from splat.training.per_photo.corrections import POSES, corrected, refined_camera
from splat.training.per_photo.parameters import PerPhoto
from splat.training.population import Population
from splat.training.step_context import StepContext
from splat.training.timing import Timer, untimed
from splat.training.training_view import TrainingView
from splat.training.update import MeanGradient, fused_step, refuse

Watch = Callable[[TrainingView, PictureLoss], None]


@dataclass
class Fitter:
    """Moves a population towards its training views, and what is learned of each photo with it.

    Attributes:
        population: the Gaussians with their Adam moments, changed in place.
        backend: renders and differentiates.
        loss: of one rendering against its view.
        hooks: deformations, penalties and edits beside the loss.
        per_photo: what is learned of each photo, by name in `TrainingView.photo_parameters`, beside what hooks declare;
            "poses" are refinements of the views' cameras. Views with an index use and step their rows.
        timer: called with the name of each stage (see `splat.training.timing`).
        frozen: Gaussians that are drawn with the population's and stay as they are.
    """

    population: Population
    backend: Backend
    loss: Loss = photometric
    hooks: Sequence[TrainingHook] = ()
    per_photo: Mapping[str, PerPhoto] = field(default_factory=dict)
    timer: Timer = untimed
    frozen: GaussianCloud | None = None

    def step(
        self,
        views: Sequence[TrainingView],
        hyper: AdamHyper,
        options: RenderOptions | None = None,
        context: StepContext | None = None,
        watch: Watch | None = None,
    ) -> list[PictureLoss]:
        """One Adam step along the mean gradient of ``views``.

        Args:
            hyper: number of the step (from 1), learning rates, regularisers.
            options: SH degree and the like; background and blur are the views' own.
            context: where in its course the optimisation is, for losses and hooks.
            watch: is shown each view with its loss before anything has moved for it, and may raise.

        Returns the loss of each view. Raises NonFiniteError naming the tensor; rows with a faulty gradient have not
        moved then.
        """
        options, context = options or RenderOptions(), context or StepContext()
        population, hooks = self.population, self.hooks
        hidden = max((hook.dropout(context) for hook in hooks if hook.dropout is not None), default=0.0)
        mean, losses, nonfinite = MeanGradient(self.backend, population), [], ()
        # The core's own step does all of it in one go, where the gradient of one view is all there is.
        fused = self.backend.backward_adam if len(views) == 1 else None
        if self.frozen is not None or any(hook.regularize is not None for hook in hooks):
            fused = None
        with ExitStack() as stack:
            stack.enter_context(gaussian_dropout(population.cloud, hidden, context.seed, context.step))
            stack.enter_context(scale_position_step(population.cloud))
            for view in views:
                fit = self._render_and_compare(view, options, context, watch)
                with self.timer("update"):
                    camera_gradient, of_photo = None, {}
                    if fused is not None and fit.pullback is None:
                        camera_gradient, nonfinite = fused_step(
                            fused, fit.context, fit.loss.gradients, population, hyper
                        )
                    else:
                        camera_gradient, of_photo = mean.add(
                            fit.context, fit.rendering, fit.loss.gradients, fit.pullback
                        )
                    self._step_photo(fit, camera_gradient, of_photo, context)
                losses.append(fit.loss)
            if fused is None or fit.pullback is not None:
                with self.timer("update"):
                    rates = {name: rate for hook in hooks for name, rate in hook.rates.items()}
                    nonfinite = mean.step(hyper, rates, self._regularizers(context))
        refuse(nonfinite, hyper.step)
        return losses

    def refine(self, context: StepContext) -> None:
        """Let the hooks edit the rows after a step, where an edit is due."""
        for hook in self.hooks:
            if hook.refine is not None:
                hook.refine(self.population, context)

    def _render_and_compare(
        self, view: TrainingView, options: RenderOptions, context: StepContext, watch: Watch | None
    ) -> "_Fit":
        hooks, cloud = self.hooks, self.population.cloud
        view, matrix = self._with_photo_parameters(view, context)
        options = replace(
            options,
            background=view.background,
            blur=view.blur,
            depth=options.depth or needs(hooks, "depth"),
            normal=options.normal or needs(hooks, "normal"),
            square_depth=options.square_depth or needs(hooks, "square_depth"),
        )
        with self.timer("rendering"):
            shown, pullback = deform_with_pullback(hooks, cloud, view)
            rendering, drawn = self.backend.forward(with_frozen(shown, self.frozen), view.camera, options)
        for hook in hooks:
            if hook.refine_target is not None:
                with torch.no_grad():
                    picture = corrected(rendering.rgb.detach(), view)
                view = hook.refine_target(picture, view, context)
        with self.timer("loss"):
            loss = self.loss(rendering, view, context)
        loss = add_penalties(hooks, loss, rendering, view, context)
        if self.frozen is not None:
            rendering = of_first_rows(rendering, len(cloud))
        if watch is not None:
            watch(view, loss)
        return _Fit(view, rendering, drawn, loss, pullback, matrix)

    def _with_photo_parameters(self, view: TrainingView, context: StepContext) -> tuple[TrainingView, Tensor | None]:
        """``view`` with what is learned of its photo; with pose refinement also the refined pose (4, 4)."""
        learned = self._learned()
        row = view.parameter_row
        if row is None or not learned:
            return view, None
        leaves = {name: each.parameters.row(row) for name, each in learned.items()}
        camera, matrix = view.camera, None
        if POSES in leaves:
            camera, matrix = refined_camera(camera, leaves[POSES], context.extent)
        return replace(view, camera=camera, photo_parameters=leaves), matrix

    def _learned(self) -> dict[str, PerPhoto]:
        return dict(self.per_photo) | {name: each for hook in self.hooks for name, each in hook.per_photo.items()}

    def _step_photo(
        self, fit: "_Fit", camera_gradient: Tensor, of_photo: Mapping[str, Tensor], context: StepContext
    ) -> None:
        """One Adam step of what is learned of the photo that ``fit`` shows, with ∂L/∂world_to_camera (4, 4)."""
        row = fit.view.parameter_row
        if row is None:
            return
        gradients = {**fit.loss.photo_gradients, **of_photo}
        if fit.matrix is not None:
            leaf = fit.view.photo_parameters[POSES]
            (gradients[POSES],) = torch.autograd.grad(fit.matrix, leaf, camera_gradient.to(fit.matrix))
        learned = self._learned()
        for name, gradient in gradients.items():
            learned[name].parameters.step(row, gradient, learned[name].rate(context))

    def _regularizers(self, context: StepContext) -> dict[str, Tensor]:
        """Gradients of what the hooks minimise of the cloud itself, by tensor."""
        total: dict[str, Tensor] = {}
        for hook in self.hooks:
            if hook.regularize is not None:
                for name, gradient in hook.regularize(self.population.cloud, context).items():
                    total[name] = total[name] + gradient if name in total else gradient
        return total


@dataclass(frozen=True)
class _Fit:
    """One view of a step, rendered and compared.

    Attributes:
        view: as it was compared.
        context: what the backend's backward pass needs.
        pullback: through the hooks' deformation; None where they deform nothing.
        matrix: the refined world_to_camera, differentiable in the photo's parameters; None without pose refinement.
    """

    view: TrainingView
    rendering: Rendering
    context: Any
    loss: PictureLoss
    pullback: Pullback | None
    matrix: Tensor | None
