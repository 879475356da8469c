"""``splat doctor``: what it says, and that a backend which draws wrongly is found out."""

import json
from dataclasses import replace

import pytest
import torch

from splat import doctor
from splat.cli import main
from splat.machine import usable_cores
from splat.rendering import reference
from splat.rendering.backends import REGISTRY


def test_it_always_ends_well_and_tells_every_section(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("Machine", "CPU core", "Graphics card", "Rendering backends", "Packages", "reference", "cpu", "cuda"):
        assert word in text


def test_json(capsys):
    assert main(["doctor", "--json", "-"]) == 0
    sections = json.loads(capsys.readouterr().out)
    found = [finding for section in sections.values() for finding in section]
    assert {finding["state"] for finding in found} <= {"ok", "absent", "broken"}
    assert any(finding["name"] == "reference" and finding["state"] == "ok" for finding in found)
    required = next(finding for finding in found if finding["name"] == "required")
    assert torch.__version__ in required["detail"]


def test_reference_draws_the_closed_form():
    assert doctor.picture_error("reference") < 1e-5


def test_expected_picture_by_hand():
    """In the middle both Gaussians have their full opacity: 0.8 of the front colour, 0.5 · 0.2 of the one behind."""
    colours = torch.tensor([[0.9, 0.3, 0.1], [0.1, 0.4, 0.8]], dtype=torch.float64)
    picture = doctor.expected_picture((4.0, 8.0), (0.25, 0.75), (0.8, 0.5), colours)
    assert picture[16, 16].tolist() == pytest.approx([0.73, 0.28, 0.16])
    assert picture[0, 0].tolist() == [0, 0, 0]


def test_a_backend_that_draws_wrongly_is_broken(monkeypatch):
    honest = reference.forward

    def brighter(*arguments, **options):
        rendering, context = honest(*arguments, **options)
        rendering.rgb.mul_(1.01)
        return rendering, context

    monkeypatch.setitem(REGISTRY, "reference", replace(reference.BACKEND, forward=brighter))
    finding = doctor.backend("reference")
    assert finding.state == "broken" and "wrong test picture" in finding.detail


def test_a_backend_that_fails_is_broken_not_fatal(monkeypatch):
    def fail(*_arguments, **_options):
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(REGISTRY, "reference", replace(reference.BACKEND, forward=fail))
    finding = doctor.backend("reference")
    assert finding.state == "broken" and "no such kernel" in finding.detail


def test_a_missing_package_comes_with_its_install_line():
    def trial() -> str:
        raise ImportError("No module named 'nonsense'")

    finding = doctor.tried("nonsense", trial, "pip install nonsense")
    assert (finding.state, finding.remedy) == ("absent", "pip install nonsense")


def test_memory_and_cores_are_plausible():
    total, free = doctor.memory()
    assert 0 <= free <= total
    assert usable_cores() >= 1
