"""The published formulas for the FLOPs of training, per token, each with its source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.algebra.formula import Formula
from pytest_flopsbudget.quantities.parsing import nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from pytest_flopsbudget.training.model_sizes import ModelSizes

#: Which parameters a formula multiplies by 6.
Weights = Literal["none", "all", "without embeddings", "without position embeddings"]


@dataclass(frozen=True, slots=True)
class Convention:
    """A published formula. All formulas leave out recomputation, unless they say otherwise."""

    key: str
    #: The FLOPs per token, in letters. Empty for "exact", which is the count.
    formula: str
    #: Letter → what it is: a sum and difference of sizes, such as "params - position_params".
    letters: Mapping[str, str]
    source: str
    weights: Weights = "none"
    #: The part of the formula for the products of attention; empty if the formula has none.
    attention: str = ""
    #: The formula of a step that recomputes activations, if the source has one.
    with_recomputation: str = ""
    #: The part of the formula for one layer, and its form for a step that recomputes; empty for formulas that count
    #: weights.
    layer: str = ""
    layer_with_recomputation: str = ""

    def text(self, *, recompute: bool = False) -> str:
        """Return the formula in letters."""
        return self.with_recomputation if recompute and self.with_recomputation else self.formula

    def where(self, sizes: ModelSizes) -> dict[str, int]:
        """Return letter → number.

        Raises:
            UsageError: a size that the formula needs is unknown.
        """
        return {letter: _combined(self.key, terms, sizes) for letter, terms in self.letters.items()}

    def missing(self, sizes: ModelSizes) -> list[str]:
        """Return the names of the sizes that the formula needs and that are unknown."""
        names = dict.fromkeys(word for terms in self.letters.values() for word in terms.split() if word not in "+-")
        return [name for name in names if name not in sizes.values]

    def value(self, sizes: ModelSizes, *, recompute: bool = False) -> Fraction:
        """Return the FLOPs per token that the formula gives.

        Raises:
            UsageError: a size that the formula needs is unknown.
        """
        return Formula(self.text(recompute=recompute), self.where(sizes)).at({})

    def part(self, formula: str, sizes: ModelSizes) -> Fraction:
        """Return the value of a part of the formula, such as `attention`."""
        return Formula(formula, self.where(sizes)).at({})

    def with_numbers(self, sizes: ModelSizes, *, recompute: bool = False) -> str:
        """Return the formula with the model's numbers in place of the letters."""
        numbers = self.where(sizes)
        return re.sub(r"[A-Za-z]+", lambda found: f"{numbers[found[0]]:,}", self.text(recompute=recompute))


def _combined(key: str, terms: str, sizes: ModelSizes) -> int:
    total, sign = 0, 1
    for word in terms.split():
        if word in "+-":
            sign = -1 if word == "-" else 1
        else:
            total += sign * sizes.need(word, f"convention {key!r}")
    return total


_ATTENTION = {"L": "layers", "H": "heads", "Q": "head_dim", "T": "sequence"}

_ROWS = (
    Convention("exact", "", {}, "the count: all products of the forward and the backward pass, without recomputation"),
    Convention(
        "6nd",
        "6*N",
        {"N": "active_params"},
        "J. Kaplan et al., Scaling Laws for Neural Language Models, 2020, section 2.1 (with N without embeddings); "
        "T. Brown et al., Language Models are Few-Shot Learners, 2020, appendix D (with all parameters, as here)",
        weights="all",
    ),
    Convention(
        "palm",
        "6*N + 12*L*H*Q*T",
        {"N": "active_params", **_ATTENTION},
        "A. Chowdhery et al., PaLM: Scaling Language Modeling with Pathways, 2022, appendix B",
        weights="all",
        attention="12*L*H*Q*T",
    ),
    Convention(
        "megatron",
        "72*L*h^2*(1 + S/(6*h) + V/(12*L*h))",
        {"L": "layers", "h": "hidden", "S": "sequence", "V": "vocabulary"},
        "V. Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, 2022, appendix A; with "
        "recomputation: D. Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters Using "
        "Megatron-LM, 2021, section 5.1",
        with_recomputation="96*L*h^2*(1 + S/(6*h) + V/(16*L*h))",
        layer="72*h^2*(1 + S/(6*h))",
        layer_with_recomputation="96*h^2*(1 + S/(6*h))",
    ),
    Convention(
        "torchtitan",
        "6*N + 6*L*H*D*T",
        {
            "N": "active_params - embedding_params",
            "L": "layers",
            "H": "heads",
            "D": "head_dim + value_dim",
            "T": "sequence",
        },
        "pytorch/torchtitan, torchtitan/models/utils.py, get_dense_model_nparams_and_flops and "
        "get_moe_model_nparams_and_flops",
        weights="without embeddings",
        attention="6*L*H*D*T",
    ),
    Convention(
        "nanogpt",
        "6*N + 12*L*H*Q*T",
        {"N": "params - position_params", **_ATTENTION},
        "karpathy/nanoGPT, model.py, GPT.estimate_mfu and GPT.get_num_params",
        weights="without position embeddings",
        attention="12*L*H*Q*T",
    ),
    Convention(
        "hf",
        "6*N",
        {"N": "params - embedding_params"},
        "huggingface/transformers, Trainer.floating_point_ops and PreTrainedModel.num_parameters",
        weights="without embeddings",
    ),
)

#: Key → convention, in the order of tables.
CONVENTIONS: Mapping[str, Convention] = {one.key: one for one in _ROWS}


def find_convention(key: str) -> Convention:
    """Return the convention called ``key``.

    Raises:
        UsageError: there is none. The message suggests the nearest name and lists all names.
    """
    if key in CONVENTIONS:
        return CONVENTIONS[key]
    near = nearest_spelling(str(key), CONVENTIONS)
    hint = f"did you mean {near!r}?" if near else f"there are {', '.join(CONVENTIONS)}"
    raise UsageError(f"no convention {key!r}; {hint}")
