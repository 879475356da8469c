"""The texts under a dataclass's fields, which are the help of the options that the fields become."""

import ast
import inspect
import textwrap

_WRAPPED = 105  # columns in the source: a line that its next word would have made longer goes on in the next line


def descriptions(kind: type) -> dict[str, str]:
    """The text under each field of the dataclass ``kind``, by name; only lines that end early remain lines."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    pairs = zip(body.body, body.body[1:], strict=False)
    return {
        item.target.id: unwrapped(after.value.value)
        for item, after in pairs
        if isinstance(item, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


def unwrapped(text: str) -> str:
    """``text`` without the line breaks that only kept its source narrow. Empty lines, lists and short lines stay."""
    lines: list[str] = []
    last = ""
    for line in (" ".join(line.split()) for line in text.strip().splitlines()):
        if last and line and not line.startswith("- ") and len(last) + 1 + len(line.split()[0]) > _WRAPPED:
            lines[-1] += " " + line
        else:
            lines.append(line)
        last = line
    return "\n".join(lines)
