"""Which photos are held out: by the input, every n-th, a fraction, none, or those of a list."""

import pytest
from support.scene_models import make_model

from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.hold_out import check, choose

NAMES = [f"{k:02d}.png" for k in range(20)]
UNSAID = [None] * 20


def held_out(wanted: str, given=UNSAID) -> list[int]:
    return [index for index, out in enumerate(choose(NAMES, given, wanted)) if out]


@pytest.mark.parametrize(
    "wanted, expected",
    [
        ("auto", [0, 8, 16]), ("8", [0, 8, 16]), ("0.125", [0, 8, 16]), ("7", [0, 7, 14]), ("none", []), ("0", []),
        ("0.5", list(range(0, 20, 2))), ("0.1", [0, 10]), ("0.9", [k for k in range(20) if k % 10 != 9]),
    ],
)  # fmt: skip
def test_numbers(wanted, expected) -> None:
    assert held_out(check(wanted)) == expected


def test_the_input_goes_first_unless_another_rule_is_asked_for() -> None:
    given = [False] * 15 + [True] * 5
    assert held_out("auto", given) == [15, 16, 17, 18, 19]
    assert held_out("8", given) == [0, 8, 16] and held_out("none", given) == []


def test_a_list_of_names(tmp_path) -> None:
    path = tmp_path / "test.txt"
    path.write_text("\ufeff# held out\n03.png\r\n\n./07\n", encoding="utf-8")
    assert held_out(check(str(path))) == [3, 7]
    path.write_text("b\\x.jpg\n")
    assert choose(["a/x.jpg", "b/x.jpg", "b/y.jpg"], [None] * 3, str(path)) == [False, True, False]
    path.write_text("03.png\n99.png\n98.png\n")
    with pytest.raises(InputError, match=r"lists 2 names that are no photos of the scene \(the first: 99\.png\)"):
        held_out(str(path))
    path.write_text("# none\n")
    with pytest.raises(InputError, match="names no photo to hold out"):
        check(str(path))
    path.write_text("\n".join(NAMES))
    with pytest.raises(InputError, match="no photo remains to train on"):
        held_out(str(path))


@pytest.mark.parametrize("wanted", ["1", "-3", "1.5", "nan", "inf", "/nowhere/at/all.txt", "half"])
def test_what_makes_no_sense_is_refused(wanted) -> None:
    with pytest.raises(InputError, match=r"hold out .*expected auto, none, a") as caught:
        check(wanted)
    assert "\n" not in str(caught.value)


def test_load_scene_takes_them(tmp_path) -> None:
    make_model(tmp_path)
    for wanted, count in ((8, 2), ("none", 0), (0, 0), (0.34, 4), (3, 3)):
        assert len(load_scene(tmp_path, progress=False, hold_out=wanted).test_views) == count
