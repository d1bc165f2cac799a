"""Second-order jets: values that depend on several parameters, with their first and second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Key = tuple[int, ...]
Jet = dict[Key, Any]
"""The value at (), the derivative by parameter i at (i,), and by i and j at (i, j) with i <= j; what is missing is 0."""


def product(multiply: Callable[[Any, Any], Any], left: Jet, right: Jet) -> Jet:
    """Return the jet of a bilinear function of two jets."""
    found: Jet = {}
    for a, of_left in left.items():
        for b, of_right in right.items():
            if len(a) + len(b) > 2:
                continue
            key = tuple(sorted(a + b))
            term = multiply(of_left, of_right)
            if a and b and a == b:
                # The second derivative has the product of the first ones twice.
                term = term + term
            found[key] = found[key] + term if key in found else term
    return found


def mapped(function: Callable[[Any], Any], jet: Jet) -> Jet:
    """Return the jet of a linear function of a jet."""
    return {key: function(part) for key, part in jet.items()}


def added(*jets: Jet) -> Jet:
    """Return the sum of jets."""
    total: Jet = {}
    for jet in jets:
        for key, part in jet.items():
            total[key] = total[key] + part if key in total else part
    return total


def orders(parameters: Iterable[int]) -> list[Key]:
    """Return the keys of the first and second derivatives by some parameters."""
    chosen = sorted(parameters)
    return [(i,) for i in chosen] + [(i, j) for at, i in enumerate(chosen) for j in chosen[at:]]
