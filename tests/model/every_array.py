"""A group of fixtures and rules that compute its arrays in; nothing out, or the first array that
differs or that no rule knows.
"""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from tests.model.parity import Group

Compute = Callable[[re.Match[str]], Tensor]


def assert_every_array(
    group: Group, rules: Mapping[str, Compute], *, but: tuple[str, ...] = ()
) -> None:
    """Compare all outputs of `group`, but for those named in `but`. A rule is a pattern of the
    whole name and how we compute what it names: sizes and seeds stand in the names.
    """
    outputs = [name for name in group if not re.search(r"(^|\.)in\.", name) and name not in but]
    assert outputs, f"{group.name} has nothing to compare with"
    for name in outputs:
        found = [
            (match, compute)
            for pattern, compute in rules.items()
            if (match := re.fullmatch(pattern, name))
        ]
        assert len(found) == 1, f"{group.name}: {len(found)} rules compute {name}"
        match, compute = found[0]
        group.assert_close(name, compute(match))
