"""Bit operations, bits of parameters, and products of numbers with less than a byte."""

from __future__ import annotations

import copy
import warnings
from fractions import Fraction

import pytest
import torch
from torch import nn
from zoo import both

from pytest_flopsbudget import law
from pytest_flopsbudget.counting.costs import Call
from pytest_flopsbudget.counting.costs.registry import REGISTRY
from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.counting.tensors.metadata import bits_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

ROWS, WIDTH, HEIGHT = 3, 16, 8
MACS = ROWS * WIDTH * HEIGHT


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [(torch.float32, 32), (torch.float64, 64), (torch.bfloat16, 16), (torch.float16, 16)],
    ids=str,
)
def test_products_of_one_precision(dtype, bits):
    counted = both(nn.Linear(WIDTH, HEIGHT, dtype=dtype), torch.zeros(ROWS, WIDTH, dtype=dtype))
    assert counted.bit_operations == MACS * bits * bits
    assert counted.bits_per_param == bits


def test_complex_numbers():
    """A complex multiply-accumulate is four real ones."""
    counted = measure(lambda: torch.zeros(2, 3, dtype=torch.complex64) @ torch.zeros(3, 4, dtype=torch.complex64))
    assert counted.bit_operations == 4 * 2 * 3 * 4 * 32 * 32


def test_autocast():
    """A product under autocast has operands in half precision, although the weight is stored in single precision."""
    with torch.autocast("cpu", torch.bfloat16):
        counted = both(nn.Linear(WIDTH, HEIGHT), torch.zeros(ROWS, WIDTH), without=("memory_traffic", "peak_memory"))
    assert (counted.bit_operations, counted.bits_per_param) == (MACS * 16 * 16, 32)


def test_modules_phases_and_operators():
    model = nn.Sequential(nn.Linear(WIDTH, HEIGHT), nn.Conv1d(1, 2, 3, dtype=torch.float64))
    images = torch.zeros(1, 1, 5, dtype=torch.float64)
    counted = measure(lambda: (model[0](torch.zeros(ROWS, WIDTH)), model[1](images)))
    linear, convolution = MACS * 32 * 32, 2 * 3 * 3 * 64 * 64
    assert counted.bit_operations == linear + convolution
    assert counted.operators["aten.addmm"].bit_operations == linear
    assert counted.operators["aten.convolution"].bit_operations == convolution
    trained = measure(nn.Linear(WIDTH, HEIGHT), torch.zeros(ROWS, WIDTH), backward=True)
    # The inputs need no gradient, so the backward pass has one product.
    assert [trained.phases[phase].bit_operations for phase in ("forward", "backward")] == [linear, linear]
    assert trained.metrics["bit_operations"] == 2 * linear


def test_what_is_no_product_has_none():
    assert measure(nn.ReLU(), torch.zeros(4)).bit_operations == 0


class TestNarrowNumbers:
    def test_bytes(self):
        left, right = (torch.zeros(32, 32, dtype=torch.int8) for _ in range(2))
        assert measure(lambda: torch._int_mm(left, right)).bit_operations == 32**3 * 8 * 8

    def test_float8(self):
        left, right = (torch.zeros(32, 32, dtype=torch.float8_e4m3fn, device="meta") for _ in range(2))
        one = torch.ones((), device="meta")
        counted = measure(lambda: torch._scaled_mm(left, right.t(), one, one, out_dtype=torch.bfloat16))
        assert (counted.macs, counted.bit_operations) == (32**3, 32**3 * 8 * 8)

    @pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="this PyTorch has no numbers of four bits")
    def test_float4(self):
        """Each element holds two numbers of four bits, which are two columns of the matrix."""
        left, right = (torch.empty(rows, 64, dtype=torch.float4_e2m1fn_x2, device="meta") for rows in (128, 256))
        scales = [torch.empty(rows * 8, dtype=torch.float8_e4m3fn, device="meta") for rows in (128, 256)]
        counted = measure(lambda: torch._scaled_mm(left, right.t(), *scales, out_dtype=torch.bfloat16))
        assert counted.macs == 128 * 256 * 128
        assert counted.bit_operations == counted.macs * 4 * 4

    @pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="this PyTorch has no numbers of four bits")
    def test_parameters_of_four_bits(self):
        model = nn.ReLU()
        model.weight = nn.Parameter(torch.empty(8, 4, dtype=torch.float4_e2m1fn_x2), requires_grad=False)
        counted = measure(model, torch.zeros(3))
        assert (counted.params, counted.param_bytes, counted.bits_per_param) == (64, 32, 4)

    @pytest.mark.parametrize(
        ("dtype", "bits"),
        [(torch.bool, 8), (torch.int8, 8), (torch.uint4, 4), (torch.int64, 64), (torch.uint16, 16), (torch.uint1, 1)],
        ids=str,
    )
    def test_bits(self, dtype, bits):
        assert bits_of(dtype) == bits


class TestTwoPrecisions:
    def test_weights_of_a_byte(self):
        x, weight = torch.zeros(ROWS, 64, dtype=torch.bfloat16), torch.zeros(32, 64, dtype=torch.int8)
        counted = measure(lambda: torch._weight_int8pack_mm(x, weight, torch.ones(32, dtype=torch.bfloat16)))
        assert counted.bit_operations == ROWS * 64 * 32 * 16 * 8

    def test_weights_of_four_bits(self):
        x = torch.zeros(ROWS, 64)
        codes = torch.zeros(32, 64, dtype=torch.int32)
        packed = torch._convert_weight_to_int4pack_for_cpu(codes, 1)
        scales = torch.zeros(2, 32, 2)
        counted = measure(lambda: torch._weight_int4pack_mm_for_cpu(x, packed, 32, scales))
        assert counted.bit_operations == ROWS * 64 * 32 * 32 * 4

    @pytest.mark.parametrize(("dtype", "bits"), [(torch.qint8, 8), (torch.float16, 16)], ids=str)
    def test_dynamically_quantized(self, dtype, bits):
        """The weights are packed. What the kernel makes of the inputs, which have 32 bits, is its own choice."""
        model = nn.Sequential(nn.Linear(WIDTH, HEIGHT), nn.LSTM(HEIGHT, 4, batch_first=True))
        quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear, nn.LSTM}, dtype)
        counted = measure(quantized, torch.zeros(1, ROWS, WIDTH))
        macs = MACS + ROWS * 4 * 4 * (HEIGHT + 4)
        assert (counted.macs, counted.bit_operations) == (macs, macs * 32 * bits)

    def test_a_cell(self):
        cell = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.GRUCell(WIDTH, 4)), {nn.GRUCell}, torch.qint8)
        counted = measure(cell, torch.zeros(ROWS, WIDTH))
        assert counted.bit_operations == counted.macs * 32 * 8 == ROWS * 3 * 4 * (WIDTH + 4) * 32 * 8

    def test_quantized_inputs(self):
        layer = torch.ao.nn.quantized.Conv2d(2, 3, 1)
        x = torch.quantize_per_tensor(torch.zeros(1, 2, 4, 4), 1.0, 0, torch.quint8)
        counted = measure(layer, x)
        assert counted.bit_operations == 16 * 2 * 3 * 8 * 8

    def test_every_dynamic_operator_says_it(self):
        """An operator that takes a packed weight beside floating-point inputs registers the bits of a weight."""
        names = [name for name, facets in REGISTRY.items() if facets.flops and "dynamic" in name]
        assert len(names) > 10
        assert [name for name in names if not REGISTRY.facets(name).bits] == []

    @pytest.mark.parametrize(("weight", "bits"), [(torch.int8, 8), (torch.uint8, 8)])
    def test_mixed(self, weight, bits):
        operands = torch.zeros(2, 16, dtype=torch.float16), torch.zeros(4, 16, dtype=weight), torch.zeros(4)
        call = Call(torch.ops.aten._mixed_dtypes_linear.default, operands, {}, torch.zeros(2, 4))
        assert REGISTRY.facets("aten._mixed_dtypes_linear").bits(call) == (16, bits)


class TestDequantizedBeforeTheProduct:
    """Weights that torchao stores in bytes are multiplied in the precision of the inputs."""

    @pytest.fixture(scope="class")
    def quantized(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # raised by packages that torchao loads
            quantization = pytest.importorskip("torchao.quantization")
            model = nn.Sequential(nn.Linear(64, 32, bias=False))
            quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
        return model

    def test_bit_operations(self, quantized):
        assert measure(quantized, torch.zeros(ROWS, 64)).bit_operations == ROWS * 64 * 32 * 32 * 32

    def test_bits_of_a_parameter(self, quantized):
        """A byte for each weight, and a scale of 4 bytes and a zero point for each of 32 rows with 64 weights."""
        counted = measure(quantized, torch.zeros(ROWS, 64))
        # A zero point has 1 or 8 bytes.
        assert counted.bits_per_param in {8 + Fraction(8 * (4 + size), 64) for size in (0, 1, 8)}
        assert "bits a param" in counted.table()


class TestHalfSparse:
    """Of four neighbouring weights, two are stored and count (Mishra et al., 2021, arXiv 2104.08378)."""

    @pytest.mark.parametrize("bias", [False, True])
    def test_compressed(self, bias):
        compressed, dense = torch.zeros(64 * 32 * 9 // 16, device="meta"), torch.zeros(32, 16, device="meta")
        operands = compressed, dense, torch.zeros(64, device="meta") if bias else None
        call = Call(torch.ops.aten._cslt_sparse_mm.default, operands, {}, torch.zeros(64, 16, device="meta"))
        facets = REGISTRY.facets("aten._cslt_sparse_mm")
        assert facets.flops(call) == 2 * 64 * 32 * 16 // 2
        assert facets.other(call) == bias * 64 * 16

    def test_semi_structured(self):
        stored, places, dense = torch.zeros(64, 16), torch.zeros(64, 2, dtype=torch.int16), torch.zeros(32, 16)
        call = Call(torch.ops.aten._sparse_semi_structured_mm.default, (stored, places, dense), {}, torch.zeros(64, 16))
        assert REGISTRY.facets("aten._sparse_semi_structured_mm").flops(call) == 2 * 64 * 32 * 16 // 2


class TestShown:
    def test_only_below_half_precision(self):
        table = measure(nn.Linear(WIDTH, HEIGHT, dtype=torch.float16), torch.zeros(1, WIDTH, dtype=torch.float16))
        assert not {"bit operations", "bits a param"} & {*table.table().split("  ")}
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(WIDTH, HEIGHT)))
        narrow = measure(model, torch.zeros(ROWS, WIDTH, dtype=torch.float32))
        # 32 bits by 8 bits are as many as 16 by 16.
        assert narrow.bit_operations == MACS * 16 * 16
        assert "bit operations" not in narrow.table()

    def test_a_law(self):
        left = torch.zeros(32, 32, dtype=torch.int8)
        found = law(lambda x: torch._int_mm(x, left), lambda n: torch.zeros(n, 32, dtype=torch.int8), n=range(32, 64))
        assert str(found["bit_operations"]) == f"{32 * 32 * 64:,}·n"
        assert "bit_operations" not in law(nn.Linear(8, 8), lambda n: torch.zeros(n, 8), n=range(1, 9)).modules[""]


def test_a_copy_in_half_precision_needs_a_quarter():
    model = nn.Linear(WIDTH, HEIGHT)
    halves = copy.deepcopy(model).half()
    full = measure(model, torch.zeros(ROWS, WIDTH))
    half = measure(halves, torch.zeros(ROWS, WIDTH, dtype=torch.float16))
    assert full.flops == half.flops
    assert full.bit_operations == 4 * half.bit_operations
