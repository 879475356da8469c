"""Checkpoints: read by other software, refused where one bit is wrong, and checked part by part."""

import copy
import json
import random

import pytest
import torch
from support.scenes import TINY, ring_scene

import splat
from splat.coding import safetensors as ours
from splat.errors import InputError
from splat.training import checkpoint, checkpoint_schema, trainer
from splat.training.plain_data import flattened, restored
from splat.training.schedules import Schedule

PHOTOS = [f"{number:03d}.png" for number in range(1, 8)]


@pytest.fixture(scope="module")
def setup():
    return trainer.set_up(ring_scene(size=24), TINY)


@pytest.fixture
def packed(setup):
    state = trainer.begin(setup, Schedule(TINY.steps, None))
    trainer.step(setup, state)
    return copy.deepcopy(checkpoint.pack(setup, state)) | {"photos": PHOTOS}


def test_other_software_reads_it(packed, tmp_path):
    theirs = pytest.importorskip("safetensors.torch")
    path = checkpoint.save(tmp_path, 1, packed)
    with theirs.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["splat"])
    tensors = theirs.load_file(path)
    assert torch.equal(tensors["population/cloud/means"], packed["population"]["cloud"]["means"])
    assert torch.equal(tensors["population/v/sh"], packed["population"]["v"]["sh"])
    assert (header["version"], header["splat"], header["step"]) == (2, splat.__version__, 1)
    assert header["photos"] == PHOTOS and header["fraction"] == packed["fraction"]


def test_plain_data_comes_back_as_it_was():
    value = {
        "a": [1, 2.5, "x", None, True, (3, float("inf"))],
        "int keys": {3: torch.arange(4), -1: (2, torch.zeros(0, 3))},
        "$odd": {"$tensor": "no tensor", "": 1},
        "scalar": torch.tensor(1.5, dtype=torch.bfloat16),
    }
    tensors: dict = {}
    found = restored(json.loads(json.dumps(flattened(value, tensors), allow_nan=False)), tensors)
    assert repr(found) == repr(value)
    with pytest.raises(TypeError, match="part is a set"):
        flattened({"part": {1, 2}}, {})


def test_every_dtype_survives_the_file(tmp_path):
    path = tmp_path / "x"
    path.touch()
    values = {name: torch.arange(5).to(dtype) for name, dtype in ours._DTYPES.items()} | {"view": torch.rand(4, 6).T}
    ours.write(path, values, {"text": "ä\n"})
    tensors, texts = ours.read(path)
    assert texts == {"text": "ä\n"} and tensors.keys() == values.keys()
    assert all(
        torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype for name, value in values.items()
    )


def test_one_flipped_bit_anywhere_is_noticed(packed, tmp_path):
    """Of every byte of the header and of 400 others: the one before is taken, and that is said."""
    old = checkpoint.save(tmp_path, 1, packed)
    new = checkpoint.save(tmp_path, 2, packed)
    whole = new.read_bytes()
    chance = random.Random(3)
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(0, header, 37), *(chance.randrange(header, len(whole)) for _ in range(200)), len(whole) - 1]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(8)
        new.write_bytes(flipped)
        with pytest.warns(UserWarning, match="step_00000002.*checksum.*the one before"):
            assert checkpoint.load(tmp_path)["step"] == 1
    old.unlink()
    with pytest.warns(UserWarning), pytest.raises(InputError, match="none of the checkpoints"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 40, 1000])
def test_a_file_cut_short_is_noticed(packed, tmp_path, cut):
    path = checkpoint.save(tmp_path, 1, packed)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.warns(UserWarning), pytest.raises(InputError, match="none of the checkpoints"):
        checkpoint.load(tmp_path)


def spoil(packed, path, value):
    *way, last = path.split("/")
    for name in way:
        packed = packed[name]
    if value is KeyError:
        del packed[last]
    else:
        packed[last] = value


WRONG = [
    ("fraction", -3), ("fraction", float("nan")), ("fraction", 5.0), ("fraction", "0.5"), ("fraction", KeyError),
    ("step", -1), ("step", 2.0), ("seconds", -1.0), ("seconds", float("inf")), ("loss", None), ("history", {}),
    ("history", [{"step": "x"}]), ("step", 10**400), ("seconds", 1e308), ("loss", 10**400), ("mse", -(10**400)),
    ("history", [{"step": 1, "seconds": 1.0, "loss": 0.1, "psnr": [1]}]), ("losses", [[1, 10**400]]),
    ("history", [{"step": 1, "seconds": 1.0, "loss": 0.1, "gaussians": "x"}]), ("losses", [[1]]),
    ("photos", [3]), ("parts", []), ("population", 7),
    ("population/cloud", KeyError), ("population/cloud/means", torch.zeros(3, 3)),
    ("population/cloud/means", [1.0]), ("population/cloud/quats", KeyError),
    ("population/cloud/sh", torch.zeros(60, 5, 3)), ("population/m/means", torch.zeros(1, 3)),
    ("population/v/quats", KeyError), ("population/m/sh", torch.zeros(60, 4, 3, dtype=torch.float64)),
    ("population/averaged", -1), ("population/mean", {"means": torch.zeros(60, 3)}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), WRONG, ids=[f"{path}={str(value)[:12]}" for path, value in WRONG])
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_wrong_parts_are_passed_over(packed, tmp_path, path, value, kind):
    good = copy.deepcopy(packed)
    spoil(packed, path, value)
    step = packed.pop("step") if path == "step" else 2
    checkpoint.save(tmp_path, 1, good)
    if kind == "pt":
        torch.save({"version": 1, "step": step, **packed}, tmp_path / "step_00000002.pt")
    else:
        written = checkpoint.save(tmp_path, 2, packed | ({"step": step} if path == "step" else {}))
        assert written.exists()
    with pytest.warns(UserWarning, match="step_00000002.*cannot be read"):
        assert checkpoint.load(tmp_path)["step"] == 1


def test_a_run_may_stand_at_its_beginning_and_its_end(packed):
    for fraction in (0, 0.0, 1.0):
        checkpoint_schema.check({**packed, "step": 0, "fraction": fraction, "seconds": 0.0, "losses": [(0, 0.5)]})


@pytest.mark.parametrize(("value", "shown"), [(None, "None"), ("x", "'x'"), ([1], "a list"), (True, "True")])
def test_what_was_found_is_said(packed, value, shown):
    with pytest.raises(ValueError, match=rf"^'loss' is {shown}, expected a number$"):
        checkpoint_schema.check({"step": 1, **packed, "loss": value})


def test_what_is_no_dictionary_is_passed_over(tmp_path):
    for value in ([1, 2], 3, None, "x", {"step": 1}):
        torch.save(value, tmp_path / "step_00000002.pt")
        with pytest.warns(UserWarning), pytest.raises(InputError, match="none of the checkpoints"):
            checkpoint.load(tmp_path)


def test_another_version_is_refused(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 3)
    checkpoint.save(tmp_path, 1, packed)
    monkeypatch.undo()
    with pytest.raises(InputError, match="version 3, expected 2"):
        checkpoint.load(tmp_path)


def test_pickled_checkpoints_of_before_are_still_read(setup, packed, tmp_path):
    torch.save({"version": 1, "step": 1, **packed}, tmp_path / "step_00000001.pt")
    state = checkpoint.unpack(setup, checkpoint.load(tmp_path), Schedule(TINY.steps, None))
    assert state.schedule.step == 1
    assert torch.equal(state.cloud.means, packed["population"]["cloud"]["means"])


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "MARKER"), "w"))

    torch.save({"version": 1, "step": 1, "x": Evil()}, tmp_path / "step_00000001.pt")
    with pytest.warns(UserWarning), pytest.raises(InputError):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "MARKER").exists()


@pytest.mark.parametrize(
    ("path", "value"),
    [("population/statistics", {"other": torch.zeros(60)}), ("photo_parameters", {"poses": {}})],
)
def test_the_state_of_another_kind_of_run_is_refused(setup, packed, path, value):
    spoil(packed, path, value)
    with pytest.raises(ValueError, match="expected"):
        checkpoint_schema.check({"step": 1, **packed})
        checkpoint.unpack(setup, {"step": 1, **packed}, Schedule(TINY.steps, None))
