"""Counting: run a model once and find its costs. This package needs PyTorch and never imports pytest.

Importing this package fails with one sentence if PyTorch is older than the oldest supported version.
"""

import torch

from pytest_flopsbudget.errors import UsageError

if not hasattr(torch.compiler, "set_stance"):  # PyTorch 2.6 has this function, and no older version
    raise UsageError(
        f"pytest-flopsbudget needs PyTorch 2.6 or newer, and the installed PyTorch is {torch.__version__}: "
        "pip install --upgrade torch"
    )
