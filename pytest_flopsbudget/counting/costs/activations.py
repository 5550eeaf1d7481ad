"""The metric ``activations``: the number of elements in the outputs of convolutions and matrix products.

A fused operator is counted as its unfused form, so that the count does not depend on the kernel. For example, fused
attention counts the scores, although it never writes them to memory. Such an operator registers a formula for
``activations`` in the file of its family.

Source: Radosavovic et al., "Designing Network Design Spaces", 2020, who define the metric for convolutions. fvcore's
`ActivationCountAnalysis` also counts linear layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.costs.elementary import stored_elements
from pytest_flopsbudget.counting.costs.registry import REGISTRY

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


def products_outputs(call: Call) -> int:
    """Return the number of elements in the outputs of the products of one call.

    A fused operator is counted as its unfused form.
    """
    rule = REGISTRY.facets(call.name).activations
    if rule is not None:
        return rule(call)
    output = call.output[0] if isinstance(call.output, (tuple, list)) else call.output
    return stored_elements(output) if isinstance(output, torch.Tensor) else 0
