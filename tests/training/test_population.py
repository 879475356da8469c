"""The edit layer keeps parameters, moments and statistics of each Gaussian together."""

import pytest
import torch

from splat.cloud import FIELDS, GaussianCloud
from splat.ops.adam import parameters
from splat.training import population as edit


def tagged(n: int, first: int = 0) -> GaussianCloud:
    """A cloud whose every number is its row's tag, so that a row can be recognised wherever it goes."""
    tags = torch.arange(first, first + n, dtype=torch.float32)
    return GaussianCloud(
        means=tags[:, None].expand(n, 3).clone(),
        log_scales=tags[:, None].expand(n, 3).clone(),
        quats=tags[:, None].expand(n, 4).clone(),
        logit_opacities=tags.clone(),
        sh=tags[:, None, None].expand(n, 4, 3).clone(),
        extras={"shape": tags.clone()},
    )


def population(n: int = 6) -> edit.Population:
    made = edit.populate(tagged(n), ("grad2d", "count"))
    for moments, first in ((made.adam.m, 100), (made.adam.v, 200)):
        moments.update(parameters(tagged(n, first)))
    made.statistics["grad2d"] += torch.arange(n)
    made.statistics["count"] += torch.arange(n) + 300
    return made


def tags(tensors: GaussianCloud | dict[str, torch.Tensor]) -> list[float]:
    """The tag of each row; fails when the tensors of a row disagree."""
    if isinstance(tensors, GaussianCloud):
        tensors = parameters(tensors)
    tags = tensors["logit_opacities"]
    assert set(tensors) == {*FIELDS, "shape"}
    for tensor in tensors.values():
        assert (tensor.reshape(len(tags), -1) == tags[:, None]).all()
        assert tensor.is_contiguous()
    return tags.tolist()


def test_keep_takes_everything_along():
    p = population()
    edit.keep(p, torch.tensor([True, False, True, True, False, True]))
    assert tags(p.cloud) == [0, 2, 3, 5]
    assert tags(p.adam.m) == [100, 102, 103, 105]
    assert tags(p.adam.v) == [200, 202, 203, 205]
    assert p.statistics["grad2d"].tolist() == [0, 2, 3, 5]
    assert p.statistics["count"].tolist() == [300, 302, 303, 305]


def test_appended_rows_start_with_nothing():
    p = population(2)
    edit.append(p, tagged(2, 50))
    assert tags(p.cloud) == [0, 1, 50, 51]
    assert tags(p.adam.m) == [100, 101, 0, 0]
    assert tags(p.adam.v) == [200, 201, 0, 0]
    assert p.statistics["count"].tolist() == [300, 301, 0, 0]


def test_replaced_rows_lose_their_past():
    p = population(4)
    edit.replace(p, torch.tensor([3, 1]), tagged(2, 60))
    assert tags(p.cloud) == [0, 61, 2, 60]
    assert tags(p.adam.m) == [100, 0, 102, 0]
    assert tags(p.adam.v) == [200, 0, 202, 0]
    assert p.statistics["grad2d"].tolist() == [0, 0, 2, 0]


def test_replacing_one_tensor_leaves_the_others():
    p = population(3)
    edit.replace(p, torch.tensor([2]), {"logit_opacities": torch.tensor([-7.0])})
    assert p.cloud.logit_opacities.tolist() == [0, 1, -7]
    assert p.adam.m["logit_opacities"].tolist() == [100, 101, 0]
    assert p.adam.v["logit_opacities"].tolist() == [200, 201, 0]
    assert p.cloud.means[2].tolist() == [2, 2, 2] and p.adam.m["means"][2].tolist() == [102, 102, 102]
    assert p.statistics["count"].tolist() == [300, 301, 302]


def test_edits_to_nothing_and_from_nothing():
    p = population(3)
    edit.keep(p, torch.zeros(3, dtype=torch.bool))
    assert len(p) == 0 and p.statistics["count"].shape == (0,)
    edit.append(p, tagged(2))
    assert tags(p.cloud) == [0, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p: edit.keep(p, torch.ones(5, dtype=torch.bool)),
        lambda p: edit.keep(p, torch.ones(6)),
        lambda p: edit.append(p, tagged(2).with_sh_degree(2)),
        lambda p: edit.append(p, tagged(2).replace(extras={})),
        lambda p: edit.replace(p, torch.tensor([1, 1]), tagged(2)),
        lambda p: edit.replace(p, torch.tensor([1, len(p)]), tagged(2)),
        lambda p: edit.replace(p, torch.tensor([-1, 1]), tagged(2)),
        lambda p: edit.replace(p, torch.tensor([1, 2]), {"means": torch.zeros(1, 3)}),
    ],
)
def test_misaligned_edits_are_refused(wrong):
    with pytest.raises(ValueError):
        wrong(population())
