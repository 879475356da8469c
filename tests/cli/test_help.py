"""Help texts come from the fields' docstrings, without the line breaks of their source."""

import pytest
from support.tiny import splat

from splat.cli.field_docs import descriptions, unwrapped


def test_a_wrapped_line_goes_on_and_lists_stay() -> None:
    long = "x" * 60 + " " + "y" * 40
    assert unwrapped(f"{long}\n    ends here.") == f"{long} ends here."
    assert unwrapped(f"Choices:\n    - {long}\n    - second\n    End.") == f"Choices:\n- {long}\n- second\nEnd."


def test_every_option_of_every_command_is_explained() -> None:
    from splat.cli.compress import Compress
    from splat.cli.convert import Convert
    from splat.cli.eval import Eval
    from splat.cli.render import Render

    for kind in (Compress, Convert, Eval, Render):
        assert set(descriptions(kind)) == set(kind.__dataclass_fields__)


@pytest.mark.parametrize(("command", "usage"), [("render", "PATH OUT"), ("convert", "PATHS…")])
def test_values_that_must_be_given_have_their_names(command: str, usage: str) -> None:
    said = splat(command, "--help")
    assert said.returncode == 0 and usage in said.stdout.splitlines()[0] and "default: none" not in said.stdout
