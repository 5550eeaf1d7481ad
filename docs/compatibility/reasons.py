"""Why tests fail under a version: a pattern of the test or of its message → the reason."""

from __future__ import annotations

import re

#: (pattern, reason). The first pattern that is found in "test: message" gives the reason.
_REASONS: tuple[tuple[str, str], ...] = (
    ("FakeWork", "this PyTorch lacks the work of fake process groups, and the message says so"),
    ("record_event", "PyTorch's own streams on the CPU lack a method that FSDP2 calls"),
    ("test_operator_database.*fft", "PyTorch's operator database has no samples for the CPU"),
    ("_fused_rms_norm", "this PyTorch lacks the operator"),
    ("incompatible version of torchao", "peft does not accept the torchao that works with this PyTorch"),
    ("src_data_rank", "the newest transformers passes an argument that this PyTorch lacks"),
    ("call_method|custom dict|RecompileLimitExceeded", "this PyTorch cannot compile or export the model"),
    (
        "test_every_name_exists",
        "this PyTorch lacks some of the private names, and each has a reaction",
    ),
    ("test_every_operator_is_classified", "operators that another version of PyTorch has or lacks"),
    ("prims::prepare_softmax_online|prims::_low_memory", "this PyTorch lacks the operator"),
    ("test_opcheck", "PyTorch's own check warns about `.grad` of a tensor that is no leaf"),
    (
        "grouped queries|one head of keys|No available kernel",
        "this PyTorch has no fused kernel for fewer heads on the CPU",
    ),
)


def reason_of(test: str, message: str) -> str:
    """Return the reason why a test fails, or its message if the reason is not known."""
    for pattern, reason in _REASONS:
        if re.search(pattern, f"{test}: {message}"):
            return reason
    return f"not explained yet ({message.replace('|', ' ').replace('<', '&lt;')[:120]})"
