"""Each rule of advice applies to its own kind of module, and there is no advice if no rule applies."""

from __future__ import annotations

from fractions import Fraction

import pytest
from explained import DEVICE, added, complexity, leaf, metrics, single

from pytest_flopsbudget.hardware.catalog import DEVICES
from pytest_flopsbudget.reports.advice import AdviceTarget, advice, describe_bound, min_balance
from pytest_flopsbudget.results.data import Module, Phase
from pytest_flopsbudget.results.module_tree import build_module_tree, walk

#: Times of compute, memory and launches, in ns.
COMPUTE, MEMORY, LAUNCH = (50, 20, 20), (20, 50, 20), (20, 20, 50)


def target(measured, path="layer", device=DEVICE):
    place = next(place for place in walk(build_module_tree(measured)) if place.path == path)
    return AdviceTarget(place, measured, device)


def of(module, operators=(), device=DEVICE, **fields):
    return advice(target(single(module, operators, **fields), device=device))


class TestWhy:
    def test_memory(self):
        found = target(single(leaf("Custom", flops=30, other=2, traffic=10, times=MEMORY)))
        # (30 + 2) / 10
        assert describe_bound(found) == "memory-bound: 3.2 FLOPs/byte"

    def test_compute(self):
        found = target(single(leaf("Custom", flops=300, traffic=10, times=COMPUTE)))
        assert describe_bound(found) == "compute-bound: 30 FLOPs/byte"

    def test_launch(self):
        found = target(single(leaf("Custom", traffic=10, launches=24, times=LAUNCH)))
        assert describe_bound(found).startswith("launch-bound: 24 operators of 100 ns beside their work; ")

    def test_no_bytes(self):
        assert describe_bound(target(single(leaf("Custom", flops=300, times=COMPUTE)))) == "compute-bound"

    def test_without_a_device(self):
        """Without a device, an intensity is called low only if it is low for each device of the catalog."""
        assert describe_bound(target(single(leaf("Custom", flops=30, traffic=10)), device=None)) == (
            "3 FLOPs/byte, few for any device"
        )
        assert describe_bound(target(single(leaf("Custom", flops=300, traffic=10)), device=None)) == "30 FLOPs/byte"
        assert describe_bound(target(single(leaf("Custom", flops=300)), device=None)) == ""

    def test_low_for_every_device(self):
        """Of all devices, the Raspberry Pi 4 needs the fewest FLOPs per byte to be compute-bound."""
        # Raspberry Pi 4: 57.6 GFLOP/s in float32 at 12.8 GB/s.
        assert Fraction(576, 128) == min_balance()
        assert all(device.vector_rate("float32") >= min_balance() * device.bandwidth for device in DEVICES.values())


class TestBatchNorm:
    NORM = leaf("BatchNorm2d", "weight 8, bias 8", other=20, traffic=100, params=16, times=MEMORY)

    def test_forward(self):
        assert of(self.NORM).startswith("for inference it can be folded into the convolution or linear layer before it")

    def test_training(self):
        """In training, there is no advice to fold batch norm, because its factors change with each batch."""
        assert "folded" not in of(self.NORM, backward=True)

    def test_another_class(self):
        assert "folded" not in of(leaf("LayerNorm", other=20, traffic=100, times=MEMORY))


class TestAttention:
    #: A module without parameters that computes two products and a softmax.
    MODULE = leaf("Attention", flops=400, other=60, traffic=500, launches=5, times=MEMORY)

    def operators(self, softmax="_softmax", *, bmm_flops=400, calls=1):
        return [(f"aten.{softmax}", calls, {"other_flops": 50}), ("aten.bmm", 2 * calls, {"flops": bmm_flops})]

    def test_written_out(self):
        assert of(self.MODULE, self.operators()) == (
            "products around a softmax in 5 operators a call; scaled_dot_product_attention need not write its scores"
        )

    def test_plain_form(self):
        """If PyTorch's attention runs in its unfused form, the advice says so."""
        assert of(self.MODULE, self.operators("_safe_softmax")).startswith(
            "scaled_dot_product_attention ran in its plain form"
        )

    def test_fused(self):
        operators = [*self.operators(), ("aten._scaled_dot_product_flash_attention_for_cpu", 1, {"flops": 400})]
        assert "softmax" not in of(self.MODULE, operators)
        assert "plain form" not in of(self.MODULE, operators)

    def test_another_product(self):
        """If most of the FLOPs are in products outside of attention, there is no advice on attention."""
        assert "softmax" not in of(self.MODULE, self.operators(bmm_flops=100_000))

    def test_no_softmax(self):
        assert "softmax" not in of(self.MODULE, self.operators("relu"))

    def test_fewer_softmaxes_than_calls(self):
        module = leaf("Attention", flops=400, other=60, traffic=500, launches=5, calls=2, times=MEMORY)
        assert "softmax" not in of(module, self.operators())

    def test_weights_of_its_own(self):
        """If the module has parameters of its own, there is no advice on attention."""
        module = leaf("Router", flops=400, other=60, traffic=500, params=10, times=MEMORY)
        assert "scaled_dot_product" not in of(module, self.operators())

    def test_multihead_attention(self):
        module = leaf("MultiheadAttention", flops=800, other=60, traffic=900, params=64, launches=9, times=MEMORY)
        assert "need_weights=False" in of(module, self.operators())
        assert "need_weights" not in of(module, self.operators("_safe_softmax"))

    def test_below_others(self):
        own, linear = metrics(flops=400, other=60, launches=5, times=MEMORY), metrics(params=9, times=MEMORY)
        module = Module(type="Attention", calls=1, metrics=added(own, linear))
        layer = Module(type="Linear", shape="3->3", calls=1, metrics=linear)
        whole = Module(type="Net", calls=1, metrics=module.metrics)
        measured = complexity({"": whole, "layer": module, "layer.out": layer}, self.operators())
        assert "products around a softmax" in advice(target(measured))


class TestHead:
    def head(self, rows, outputs=50_000, inputs=8):
        flops = 2 * rows * inputs * outputs
        return leaf("Linear", f"{inputs}->{outputs}", flops=flops, traffic=flops, params=inputs, times=COMPUTE)

    def test_many_rows(self):
        assert of(self.head(128)).startswith("it computes 50,000 outputs for each of 128 rows; ")

    @pytest.mark.parametrize(("rows", "outputs"), [(1, 50_000), (128, 9_999)])
    def test_one_row_or_few_outputs(self, rows, outputs):
        assert "rows" not in of(self.head(rows, outputs))

    def test_a_layer_between_others(self):
        """If a layer has only four times as many outputs as inputs, there is no advice to compute fewer rows."""
        assert "rows" not in of(self.head(128, outputs=40_000, inputs=10_000))

    def test_training(self):
        """In training, there is no advice to compute fewer rows, because the loss needs all rows."""
        assert "rows" not in of(self.head(128), backward=True)

    def test_several(self):
        modules = {"": leaf("Net", times=COMPUTE), **{str(i): self.head(128) for i in range(2)}}
        assert "rows" not in advice(target(complexity(modules), "{0-1}"))


class TestDepthwise:
    def test_each_channel_by_itself(self):
        assert of(leaf("Conv2d", "8->8, 3x3, groups 8", flops=90, traffic=100, times=MEMORY)).startswith("depthwise: ")

    def test_fewer_groups(self):
        assert "depthwise" not in of(leaf("Conv2d", "8->8, 3x3, groups 4", flops=90, traffic=100, times=MEMORY))

    def test_compute_bound(self):
        assert "depthwise" not in of(leaf("Conv2d", "8->8, 3x3, groups 8", flops=90, traffic=100, times=COMPUTE))


class TestWeights:
    def test_one_row(self):
        """For a linear layer, the advice says which share of the moved bytes are weights."""
        # Bytes: 4 * 20 of the weights, 4 * (20 + 4 + 5) in all. FLOPs of one row: 2 * 4 * 5.
        layer = leaf("Linear", "4->5", flops=40, traffic=116, params=20, times=MEMORY)
        assert of(layer) == (
            "68% of its bytes are weights, read for 1 row of inputs a call: a larger batch shares them, fewer bits "
            "make them smaller"
        )

    def test_rows_of_several_calls(self):
        layer = leaf("Linear", "4->5", flops=3 * 2 * 40, traffic=300, params=20, calls=3, times=MEMORY)
        assert "80% of its bytes are weights, read for 2 rows of inputs a call" in of(layer)

    def test_a_convolution(self):
        """For a convolution, the advice does not mention rows of inputs."""
        layer = leaf("Conv2d", "4->5, 1x1", flops=40, traffic=116, params=20, times=MEMORY)
        assert of(layer).startswith("68% of its bytes are weights: ")

    def test_other_bytes(self):
        assert "weights" not in of(leaf("Linear", "4->5", flops=400, traffic=1000, params=20, times=MEMORY))

    def test_weights_that_were_not_read(self):
        """If the weights have more bytes than the module moved, there is no advice on weights."""
        assert "weights" not in of(leaf("Experts", flops=40, traffic=60, params=20, times=MEMORY))

    def test_an_embedding(self):
        """An embedding gets no advice on weights, because it reads only some of its rows."""
        assert of(leaf("Embedding", "4->5", traffic=116, params=20, times=MEMORY)) == ""


class TestOptimizer:
    def step(self, name="aten.addcmul_", launches=80):
        own = metrics(other=100, traffic=10, launches=100, times=LAUNCH)
        phases = {
            "forward": Phase(metrics=metrics(launches=100 - launches)),
            "optimizer": Phase(metrics=metrics(launches=launches)),
        }
        measured = complexity(
            {"": Module(type="step", calls=1, metrics=own)}, [(name, launches, {"other_flops": 9})], phases=phases
        )
        return advice(target(measured, ""))

    def test_an_operator_a_parameter(self):
        assert self.step().startswith("80 of them are the optimizer's; foreach=True")

    def test_one_for_many(self):
        assert "foreach" not in self.step("aten._foreach_addcmul_")

    def test_others_do_more(self):
        assert "foreach" not in self.step(launches=40)


class TestNoProducts:
    def test_a_chain(self):
        found = of(leaf("GELU", other=80, traffic=800, launches=16, calls=2, times=MEMORY))
        assert found == (
            "8 operators a call without a product, which a compiler (torch.compile) usually fuses with what is around"
        )

    @pytest.mark.parametrize("times", [MEMORY, LAUNCH])
    def test_one_operator(self, times):
        assert of(leaf("ReLU", other=80, traffic=800, times=times)).startswith("1 operator a call without a product")

    def test_without_a_device(self):
        assert "usually fuses" in of(leaf("ReLU", other=80, traffic=800), device=None)
        assert of(leaf("ReLU", other=8000, traffic=800), device=None) == ""

    @pytest.mark.parametrize("name", ["aten._fft_r2c", "mylib::scan", "triton::kernel"])
    def test_what_no_compiler_takes(self, name):
        """If no compiler fuses the operator, there is no advice to fuse it."""
        assert "fuses with" not in of(
            leaf("Spectral", other=80, traffic=800, times=MEMORY), [(name, 1, {"other_flops": 80})]
        )

    def test_only_moved(self):
        """A module that only moves data gets no advice."""
        assert of(leaf("Shuffle", traffic=800, times=MEMORY)) == ""

    def test_compute_bound(self):
        assert of(leaf("Spectral", other=80, traffic=8, times=COMPUTE)) == ""


class TestLaunches:
    def test_small_products(self):
        found = of(leaf("Tiny", flops=10, other=1, traffic=10, launches=9, times=LAUNCH))
        assert found.startswith("fewer and larger operators help: ")


class TestFasterProducts:
    def test_four_times(self):
        """If BF16 is four times as fast as FP32 on the device, the advice says so."""
        layer = leaf("Linear", "4->5", flops=500, traffic=10, params=20, times=COMPUTE)
        # The device has 10 FLOPs per ns in float32 and 40 in bfloat16.
        assert of(layer) == "its products run in float32; chip multiplies faster in others: bfloat16 4x"

    def test_on_an_a100(self):
        """On an A100, the advice compares the speed of float32 with those of TF32, bfloat16 and float16."""
        device = DEVICES["A100"]
        own = metrics(flops=19_500_000, traffic=10, params=20) | {
            "compute_time[A100]": 1000,
            "memory_time[A100]": 0,
            "launch_time[A100]": 900,
        }
        found = of(Module(type="Linear", shape="4->5", calls=1, metrics=own), device=device)
        # TFLOP/s: 19.5 in float32, 156 in TF32, 312 in bfloat16 and float16.
        assert found.endswith("A100 multiplies faster in others: TF32 8x, bfloat16 16x, float16 16x")

    def test_another_rate(self):
        """If the products do not run at the rate of FP32, there is no advice on the dtype."""
        assert of(leaf("Linear", "4->5", flops=2000, traffic=10, params=20, times=COMPUTE)) == ""

    def test_other_parameters(self):
        assert of(leaf("Linear", "4->5", flops=500, traffic=10, params=20, param_bytes=40, times=COMPUTE)) == ""

    def test_converted(self):
        """If the parameters are converted, as under autocast, there is no advice on the dtype."""
        layer = leaf("Linear", "4->5", flops=500, traffic=10, params=20, times=COMPUTE)
        assert of(layer, [("aten._to_copy", 1, {"memory_traffic": 10})]) == ""


class TestHalves:
    CONVOLUTION = leaf("Conv2d", "4->5, 3x3", flops=300, traffic=1000, params=20, times=MEMORY)

    def test_products_that_wait_for_memory(self):
        assert of(self.CONVOLUTION) == "in half precision it would move half of its bytes"

    def test_converted(self):
        assert of(self.CONVOLUTION, [("aten._to_copy", 1, {"memory_traffic": 10})]) == ""
