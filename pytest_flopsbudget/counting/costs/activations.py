"""Activations: the elements of the outputs of convolutions and matrix products.

Source: Radosavovic et al., "Designing Network Design Spaces", 2020, who define it for convolutions; fvcore's
`ActivationCountAnalysis` counts linear layers too. A fused operator counts like its unfused form, so that the count
does not depend on the kernel: fused attention counts the scores, although it never writes them. Such operators register
a formula for ``activations`` in the file of their family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.costs.elementary import stored_elements
from pytest_flopsbudget.counting.costs.registry import REGISTRY

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


def products_outputs(call: Call) -> int:
    """Return how many elements the products of one call have in their outputs; a fused call counts its unfused form."""
    rule = REGISTRY.facets(call.name).activations
    if rule is not None:
        return rule(call)
    output = call.output[0] if isinstance(call.output, (tuple, list)) else call.output
    return stored_elements(output) if isinstance(output, torch.Tensor) else 0
