"""Adam (Kingma & Ba 2015) on the tensors of a cloud: its state, and one step.

On the CPU backend the step happens inside the backward pass (`splat.rendering.cpu.backward_adam`); the functions here
serve gradients that come from anywhere else, with the same equations.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from splat.cloud import FIELDS, GaussianCloud
from splat.native import cpu_library, cuda_launcher, cuda_structs
from splat.native.cuda_launcher import blocks_for
from splat.native.cuda_structs import FLOAT, INT, fill, pointers, structure

NONE_BAD = 2**31 - 1  # what `adam_rows` reports when all rows are finite
MAX_WIDTH = 256  # values per row that `adam_rows` takes

_Rows = structure(
    "Rows", **pointers("p", "m", "v", "g", "visible"), rows=INT, width=INT, head=INT, head_rate=FLOAT, tail_rate=FLOAT,
    adam=cuda_structs.Adam, regulariser=INT, weight=FLOAT, **pointers("first_bad"),
)  # fmt: skip

_POINTER, _INT64, _DOUBLE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_int
_ARGUMENTS = [_POINTER] * 4 + [_INT64] * 3 + [_DOUBLE] * 5 + [_INT64, _POINTER, _INT, _DOUBLE]
_REGULARISERS = {"logit_opacities": 1, "log_scales": 2}


@dataclass(frozen=True)
class AdamHyper:
    """Settings of one Adam step.

    Attributes:
        step: number of this step, counted from 1, for the bias correction 1 − βᵗ.
        means, log_scales, quats, logit_opacities, sh_dc, sh_rest: learning rates.
        beta1, beta2, eps: Kingma & Ba 2015.
        visible_only: touch only rows with radii > 0, without bias correction (selective Adam, Mallick et al. 2024).
        opacity_reg: adds the gradient of λ·mean(sigmoid(logit_opacities)), over all rows.
        scale_reg: adds the gradient of λ·mean(exp(log_scales)), over all rows and axes.
    """

    step: int
    means: float
    log_scales: float
    quats: float
    logit_opacities: float
    sh_dc: float
    sh_rest: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-15
    visible_only: bool = False
    opacity_reg: float = 0.0
    scale_reg: float = 0.0

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"the step of Adam is {self.step}, expected 1 or more")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.eps >= 0):
            raise ValueError(f"β are {self.beta1}, {self.beta2}, ε {self.eps}; expected 0 ≤ β < 1 and ε ≥ 0")


@dataclass
class AdamState:
    """The moments of every tensor of a cloud.

    Attributes:
        m, v: first and second moments by tensor name (the five fields and the names of floating-point extras), each of
            the tensor's shape; the rows belong to the cloud's rows.
    """

    m: dict[str, Tensor]
    v: dict[str, Tensor]

    @staticmethod
    def zeros(cloud: GaussianCloud) -> "AdamState":
        """The state before the first step."""
        tensors = parameters(cloud)
        return AdamState(
            m={name: torch.zeros_like(tensor) for name, tensor in tensors.items()},
            v={name: torch.zeros_like(tensor) for name, tensor in tensors.items()},
        )


def parameters(cloud: GaussianCloud) -> dict[str, Tensor]:
    """The cloud's trainable tensors by name: the five fields and the floating-point extras."""
    tensors = {name: getattr(cloud, name) for name in FIELDS}
    tensors.update({name: tensor for name, tensor in cloud.extras.items() if tensor.is_floating_point()})
    return tensors


def adam_step(
    cloud: GaussianCloud,
    gradients: Mapping[str, Tensor],
    state: AdamState,
    hyper: AdamHyper,
    visible: Tensor | None = None,
    extra_rates: Mapping[str, float] | None = None,
) -> tuple[str, ...]:
    """One step of Adam on a cloud, in place on its tensors and on ``state.m`` and ``state.v``.

    Rows whose gradient is not finite keep their values and moments.

    Args:
        cloud: tensors of float32, contiguous.
        gradients: ∂L/∂tensor by name; tensors without an entry are not touched.
        hyper: number of the step (counted from 1), learning rates, β, ε, regularisers. With ``visible_only`` only
            the rows of ``visible`` are touched, without bias correction, as in Taming-3DGS (Mallick et al. 2024).
        visible: (N,) bool, needed with ``visible_only``.
        extra_rates: learning rates of the extras among the gradients.

    Returns:
        The names of the tensors that had a gradient which is not finite.
    """
    if hyper.visible_only and visible is None:
        raise ValueError("visible_only needs the mask of visible rows")
    if visible is not None and (visible.shape != (len(cloud),) or visible.dtype != torch.bool):
        raise ValueError(f"visible is {visible.dtype} {tuple(visible.shape)}, expected bool ({len(cloud)},)")
    bad = []
    for name, tensor in parameters(cloud).items():
        if name not in gradients:
            continue
        _check_row_tensors(name, tensor, gradients[name], state)
        if name not in FIELDS and name not in (extra_rates or {}):
            raise ValueError(f"there is a gradient of '{name}' but no learning rate for it in extra_rates")
        if name == "sh":
            rates = (hyper.sh_dc, hyper.sh_rest)
        else:
            rate = getattr(hyper, name) if name in FIELDS else (extra_rates or {})[name]
            rates = (rate, rate)
        weight = {"logit_opacities": hyper.opacity_reg, "log_scales": hyper.scale_reg}.get(name, 0.0)
        on_cpu = tensor.device.type == "cpu" and tensor.dtype == torch.float32
        on_gpu = cuda_launcher.runs_on(tensor) and tensor[:1].numel() <= MAX_WIDTH
        update = _step_compiled if on_cpu or on_gpu else _step_torch
        first = update(
            name, tensor, gradients[name], state, hyper, rates, visible if hyper.visible_only else None, weight
        )
        if first >= 0:
            bad.append(name)
    return tuple(bad)


def _check_row_tensors(name: str, tensor: Tensor, gradient: Tensor, state: AdamState) -> None:
    """Raise ValueError unless gradient and moments have the shape, the device and the dtype of ``tensor``."""
    for what, other in (("gradient", gradient), ("moment m", state.m.get(name)), ("moment v", state.v.get(name))):
        if other is None or other.shape != tensor.shape or other.device != tensor.device:
            found = "missing" if other is None else f"{tuple(other.shape)} on {other.device}"
            raise ValueError(f"the {what} of {name} is {found}, expected {tuple(tensor.shape)} on {tensor.device}")


def _step_compiled(
    name: str,
    tensor: Tensor,
    gradient: Tensor,
    state: AdamState,
    hyper: AdamHyper,
    rates: tuple[float, float],
    visible: Tensor | None,
    weight: float,
) -> int:
    """The step by the C++ core, or on a GPU by the CUDA kernel, which is waited for.

    Returns the first row whose gradient is not finite, or −1.
    """
    if tensor.numel() == 0:
        return -1
    gradient, moments = gradient.contiguous(), (state.m[name], state.v[name])
    width = tensor[:1].numel()
    head = 3 if name == "sh" else width
    kind, weight = _REGULARISERS.get(name, 0) if weight else 0, weight / tensor.numel()
    if cuda_launcher.runs_on(tensor):
        constants = cuda_structs.adam(hyper.step, hyper.beta1, hyper.beta2, hyper.eps, not hyper.visible_only)
        columns = RowRates(head, *rates)
        row = int(adam_rows(tensor, moments, gradient, columns, constants, visible, kind, weight))
        return -1 if row == NONE_BAD else row
    first = cpu_library.function("splat_adam", _ARGUMENTS, _INT64)(
        *(cpu_library.pointer(one, torch.float32) for one in (tensor, *moments, gradient)),
        tensor.shape[0],
        width,
        head,
        *rates,
        hyper.beta1,
        hyper.beta2,
        hyper.eps,
        0 if hyper.visible_only else hyper.step,
        cpu_library.pointer(visible, torch.bool),
        kind,
        weight,
    )
    if first < -1:
        raise ValueError(
            f"the CPU core refused the Adam step of {name}: a size, β, ε or the number of the step is wrong"
        )
    return first


def _step_torch(
    name: str,
    tensor: Tensor,
    gradient: Tensor,
    state: AdamState,
    hyper: AdamHyper,
    rates: tuple[float, float],
    visible: Tensor | None,
    weight: float,
) -> int:
    """The same step in PyTorch, for other devices and dtypes."""
    if tensor.numel() == 0:
        return -1
    good = gradient.reshape(len(tensor), -1).isfinite().all(1)
    rows = good if visible is None else good & visible
    if weight and name in _REGULARISERS:
        value = tensor.sigmoid() if name == "logit_opacities" else tensor.exp()
        slope = value * (1 - value) if name == "logit_opacities" else value
        gradient = gradient + weight / tensor.numel() * slope
    mask = rows.reshape(-1, *[1] * (tensor.ndim - 1))
    m, v = state.m[name], state.v[name]
    m.copy_(torch.where(mask, hyper.beta1 * m + (1 - hyper.beta1) * gradient, m))
    v.copy_(torch.where(mask, hyper.beta2 * v + (1 - hyper.beta2) * gradient**2, v))
    corrected1 = 1.0 if hyper.visible_only else 1 - hyper.beta1**hyper.step
    corrected2 = 1.0 if hyper.visible_only else 1 - hyper.beta2**hyper.step
    move = m / corrected1 / ((v / corrected2).sqrt() + hyper.eps)
    if name == "sh":
        move[:, :1] *= rates[0]
        move[:, 1:] *= rates[1]
    else:
        move *= rates[0]
    tensor.sub_(torch.where(mask, move, torch.zeros_like(move)))
    return -1 if bool(good.all()) else int((~good).nonzero()[0, 0])


@dataclass(frozen=True)
class RowRates:
    """Learning rates of a (rows, width) tensor: of its first ``head`` columns, and of the others."""

    head: int
    head_rate: float
    tail_rate: float


def adam_rows(
    tensor: Tensor,
    moments: tuple[Tensor, Tensor],
    gradient: Tensor,
    rates: RowRates,
    constants: cuda_structs.Adam,
    visible: Tensor | None = None,
    regulariser: int = 0,
    weight: float = 0.0,
) -> Tensor:
    """One Adam step in place on a tensor (N, …) of up to 256 values per row; rows that are not finite are left alone.

    Args:
        moments: first and second, of the tensor's shape.
        constants: from `splat.native.cuda_structs.adam`.
        visible: (N,) bool, rows to touch; None touches all.
        regulariser: 0 none; 1 adds weight · ∂Σ sigmoid(tensor), 2 adds weight · ∂Σ exp(tensor) to the gradient.

    Returns:
        (1,) int32 on the GPU: the first row whose gradient is not finite, 2³¹ − 1 if there is none.
    """
    rows = len(tensor)
    first_bad = torch.full((1,), NONE_BAD, dtype=torch.int32, device=tensor.device)
    if tensor.numel() == 0:
        return first_bad
    width, threads = tensor.numel() // rows, MAX_WIDTH
    gradient = gradient.contiguous()
    step = fill(
        _Rows, p=tensor, m=moments[0], v=moments[1], g=gradient,
        visible=None if visible is None else (visible, torch.bool), first_bad=(first_bad, torch.int32),
    )  # fmt: skip
    step.rows, step.width, step.regulariser, step.weight = rows, width, regulariser, weight
    step.head, step.head_rate, step.tail_rate, step.adam = rates.head, rates.head_rate, rates.tail_rate, constants
    cuda_launcher.launcher(tensor.device).launch("adam", "adam_rows", blocks_for(rows, threads // width), threads, step)
    return first_bad
