"""Requests through proxies, and messages that no page of ours would send."""

import math
import threading
from types import SimpleNamespace

import pytest
import torch
from support.patience import wait_for

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.viewer import access, values

HUB = "https://hub.example.org"


@pytest.mark.parametrize(
    "asking, host, origin, passes",
    [
        (None, "127.0.0.1:1", None, True),
        ("http://127.0.0.1:1", "127.0.0.1:1", None, True),
        ("http://127.0.0.1:2", "127.0.0.1:1", None, False),
        (HUB, "127.0.0.1:1", None, False),
        (HUB, "127.0.0.1:1", HUB, True),
        (HUB, "hub.example.org", None, True),
        ("http://hub.example.org", "127.0.0.1:1", HUB, False),
        ("https://hub.example.org.evil.example", "127.0.0.1:1", HUB, False),
        ("null", "127.0.0.1:1", HUB, False),
        ("http://[", "127.0.0.1:1", HUB, False),
    ],
)
def test_origins(asking, host, origin, passes) -> None:
    headers = {"Host": host} | ({} if asking is None else {"Origin": asking})
    assert (access.refusal(headers, "/", None, origin) is None) == passes


def test_the_token_works_below_any_path() -> None:
    """The address is relative and the cookie has no path: browsers then keep both below the proxy's prefix."""
    status, headers, _ = access.refusal({"Host": "h"}, "/?token=secretsecret", "secretsecret", HUB)
    assert status == 303 and headers["Location"] == "./" and "path" not in headers["Set-Cookie"].lower()
    cookie = headers["Set-Cookie"].split(";")[0]
    assert access.refusal({"Host": "h", "Cookie": cookie}, "/", "secretsecret") is None
    assert access.refusal({"Host": "h", "Cookie": cookie + "x"}, "/", "secretsecret")[0] == 403
    assert access.refusal({"Host": "h", "Origin": HUB, "Cookie": cookie}, "/", "secretsecret")[0] == 403
    assert access.refusal({"Host": "h", "Origin": HUB}, "/", "secretsecret", HUB)[0] == 403


@pytest.mark.parametrize(
    "url, origin",
    [
        ("https://hub.example.org", HUB),
        ("https://Hub.Example.org:443/user/me/", HUB),
        ("http://a:8080/", "http://a:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("hub.example.org", None),
        ("ftp://a", None),
        ("https://a:99999", None),
        ("http://[", None),
        ("https://me@a", None),
    ],
)
def test_origin_of(url, origin) -> None:
    if origin is None:
        with pytest.raises(InputError, match="--origin"):
            access.origin_of(url)
    else:
        assert access.origin_of(url) == origin


ODD = [math.nan, math.inf, -math.inf, 1e309, -1, 10**400, "x", "", None, [], {}, True, (1, 2)]


@pytest.mark.parametrize("value", ODD)
def test_values_of_controls(value) -> None:
    control = SimpleNamespace(value=value)
    assert 0.1 <= values.number(control, 0.1, 9) <= 9
    assert values.choice(control, ("a", "b")) == "a"
    for given in (value, [value] * 3, (1.0, value, 2.0)):
        numbers = values.vector(SimpleNamespace(value=given))
        assert len(numbers) == 3 and all(abs(number) <= values.FARTHEST for number in numbers)
        assert all(0 <= channel <= 1 for channel in values.colour(SimpleNamespace(value=given)))


def test_sound_values_stay() -> None:
    assert values.number(SimpleNamespace(value=3), 0, 9) == 3
    assert values.vector(SimpleNamespace(value=(1, -2.5, 3))) == (1, -2.5, 3)
    assert values.colour(SimpleNamespace(value=(0, 51, 255))) == (0, 0.2, 1)
    assert values.choice(SimpleNamespace(value="b"), ("a", "b")) == "b"


def camera(**changes) -> SimpleNamespace:
    sound = {"wxyz": (1, 0, 0, 0), "position": (0, 0, -3), "fov": 0.8, "image_width": 64, "image_height": 48}
    return SimpleNamespace(**{**sound, **changes})


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("name", ["wxyz", "position", "fov", "image_width", "image_height"])
def test_cameras_of_browsers(name, value) -> None:
    for given in (value, [value] * 3, [value] * 4):
        numbers = values.camera_numbers(camera(**{name: given}))
        if numbers is not None:
            wxyz, position, fov, width, height = numbers
            assert all(map(math.isfinite, (*wxyz, *position))) and values.FOV[0] <= fov <= values.FOV[1]
            assert 1 <= width <= values.LARGEST_SCREEN and 1 <= height <= values.LARGEST_SCREEN
    assert values.camera_numbers(camera(wxyz=(0, 0, 0, 0))) is None
    assert values.camera_numbers(camera()) == ((1, 0, 0, 0), (0, 0, -3), 0.8, 64, 48)


def test_threads_stay_level(tmp_path, capfd) -> None:
    """Thousands of camera messages, odd ones among them, and browsers that come and go."""
    pytest.importorskip("viser", reason="the viewer's extra is not installed")
    from support.raw_browser import RawBrowser

    from splat.viewer import Look, SceneCloud, first_view, open_page

    generator = torch.Generator().manual_seed(0)
    means = torch.randn(20, 3, generator=generator)
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(20, 1)
    cloud = GaussianCloud(means, torch.full((20, 3), -2.0), quats, torch.ones(20), torch.rand(20, 1, 3))
    page = open_page([SceneCloud("a", cloud, 1)], first_view(cloud, None, None), Look(), folder=tmp_path, port=18240)
    try:
        port = page.server.get_port()
        with RawBrowser(port) as browser:
            browser.camera()
            wait_for(lambda: page.watched)
            before = threading.active_count()
            for k in range(500):
                browser.camera(position=(0.0, 0.0, -3 - k / 1000))
            for odd in ({"fov": math.nan}, {"fov": 0.0}, {"wxyz": (0.0,) * 4}, {"position": (math.inf, 0.0, 0.0)}):
                browser.camera(**odd)
            browser.camera(image_width=32, image_height=24)
            wait_for(lambda: page.pose(next(iter(page.server.get_clients().values()))).width == 32)
            assert threading.active_count() <= before + 1
        for _ in range(20):
            with RawBrowser(port) as browser:
                browser.camera()
        wait_for(lambda: not page.watched)
    finally:
        page.close()
    said = capfd.readouterr()
    assert "math domain error" not in said.out + said.err and "Traceback" not in said.out + said.err
