"""The catalog of devices, with the source of every figure.

If a source gives a rate only with sparsity, the catalog has half of that rate, because sparsity doubles rates. If a
source gives no rate, the rate is computed from the number of cores, the highest clock and the work per cycle. A source
that nobody opened for this catalog, so that the figure is known from other texts, is called "not opened". A figure
without a source is called an assumption. Assumptions are chosen such that estimated times are lower bounds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.profile import Device
from pytest_flopsbudget.quantities.parsing import nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_G = 10**9
_GIB = 2**30

#: Nanoseconds. In a stream of short kernels, each kernel takes 3.8 us, although launches overlap with execution. Of
#: these, the kernel itself runs for 2.9 us.
_GPU_LAUNCH = 900
_CUDA_LAUNCH = (
    "launch: NVIDIA Technical Blog, Getting Started with CUDA Graphs, 2019: 3.8 us a kernel of 2.9 us, on a V100"
)
_OTHER_GPU_LAUNCH = "launch: assumed to be that of CUDA"
#: Nanoseconds. From Python on a core of a server, adding one element in place takes about 1 us.
_CPU_LAUNCH = 500
_CPU_DISPATCH = "launch: assumed, half of what PyTorch's cheapest operators take on a server's core"
_CUDA_GUIDE = "CUDA C++ Programming Guide, throughput of native arithmetic instructions"

_A100_RATES = {
    "float64": 19_500 * _G,
    "float32": 19_500 * _G,
    "tfloat32": 156_000 * _G,
    "bfloat16": 312_000 * _G,
    "float16": 312_000 * _G,
    "int8": 624_000 * _G,
}
_A100_VECTOR_RATES = {"float64": 9_700 * _G, "float32": 19_500 * _G, "bfloat16": 39_000 * _G, "float16": 78_000 * _G}
_A100_SOURCES = (
    "rates of products, bandwidth, memory: NVIDIA A100 Tensor Core GPU data sheet, 2021, specifications",
    "vector rates: NVIDIA A100 Tensor Core GPU Architecture, white paper, 2020, performance specifications of A100",
    _CUDA_LAUNCH,
)
# The data sheets give rates with sparsity. The rates here are half of those.
_HOPPER_RATES = {
    "float64": 67_000 * _G,
    "float32": 67_000 * _G,
    "tfloat32": 989_000 * _G // 2,
    "bfloat16": 1_979_000 * _G // 2,
    "float16": 1_979_000 * _G // 2,
    "float8": 3_958_000 * _G // 2,
    "int8": 3_958_000 * _G // 2,
}
_HOPPER_VECTOR_RATES = {
    "float64": 34_000 * _G,
    "float32": 67_000 * _G,
    "bfloat16": 133_800 * _G,
    "float16": 133_800 * _G,
}
_HOPPER_HALVES = "vector rates of halves: NVIDIA H100 Tensor Core GPU Architecture, white paper, 2022, H100 SXM5"


def _per_cycle(cores: int, megahertz: int, work: Mapping[str, int]) -> Mapping[str, int]:
    """Return dtype → rate, computed from the number of cores, the highest clock, and the work of a core per cycle."""
    return {dtype: cores * megahertz * 10**6 * amount for dtype, amount in work.items()}


# Two pipes of 128 bits, each with a fused multiply-add a cycle: 8 FLOPs in FP32, 16 in FP16; or a dot product of 16
# bytes, 32 operations.
_PI_5 = _per_cycle(4, 2_400, {"float64": 8, "float32": 16, "float16": 32, "int8": 64})
# Two pipes of 64 bits: together one fused multiply-add of 128 bits a cycle. There is no arithmetic in FP16. For bytes,
# one pipe does 8 multiply-accumulates a cycle.
_PI_4 = _per_cycle(4, 1_800, {"float64": 4, "float32": 8, "int8": 16})
# Two fused multiply-adds of 256 bits a cycle; for bytes, two multiply-adds of 32 pairs.
_EPYC = _per_cycle(64, 3_500, {"float64": 16, "float32": 32, "int8": 128})
# Two fused multiply-adds of 512 bits a cycle; for bytes, two dot products of 64 pairs (VNNI).
_XEON = _per_cycle(40, 3_400, {"float64": 32, "float32": 64, "int8": 256})
# 1024 ALUs in 8 cores; FP16 is as fast as FP32.
_M1 = _per_cycle(1_024, 1_278, {"float32": 2, "float16": 2})
# Tensor cores of Ampere: 256 FLOPs a cycle in TF32, 512 in halves, 1024 operations on bytes; 32 ALUs per tensor core.
_ORIN_VECTOR = {"float32": 2 * 32, "bfloat16": 2 * 2 * 32, "float16": 2 * 2 * 32}
_ORIN = {"float32": 2 * 32, "tfloat32": 256, "bfloat16": 512, "float16": 512, "int8": 1_024}
_ORIN_SOURCES = (
    "vector rates of halves: assumed, twice FP32",
    "rates of halves and TF32: those of A100's tensor cores, a half and a quarter of the rate of bytes",
    _CUDA_LAUNCH,
)  # Compute units at 2.4 GHz. FP4 is twice as fast as FP8, and halves are half as fast.
_MI355X_VECTOR = _per_cycle(256, 2_400, {"float64": 128, "float32": 256, "bfloat16": 512, "float16": 512})
_MI355X = _per_cycle(
    256,
    2_400,
    {
        "float64": 128,
        "float32": 256,
        "bfloat16": 4_096,
        "float16": 4_096,
        "float8": 8_192,
        "float4": 16_384,
        "int8": 8_192,
    },
)
_BLACKWELL_HALVES = f"vector rates of halves (twice FP32): {_CUDA_GUIDE}, 10.0; not opened"
_TPU_SOURCES = (
    "rate in FP32: assumed that of BF16, in which XLA multiplies FP32 by default",
    "vector rates: assumed those of products",
    "launch: assumed none, because XLA compiles whole graphs",
)

_PROFILES = (
    Device(
        "V100",
        rates={"float64": 7_800 * _G, "float32": 15_700 * _G, "float16": 125_000 * _G},
        vector_rates={"float64": 7_800 * _G, "float32": 15_700 * _G, "float16": 31_400 * _G},
        bandwidth=900 * _G,
        memory=32 * _GIB,
        launch=_GPU_LAUNCH,
        names=("V100-SXM2-16GB", "V100-SXM2-32GB"),
        sources=(
            "rates, bandwidth, memory: NVIDIA V100 Tensor Core GPU data sheet, 2020, V100 SXM2",
            "vector rate in FP16: NVIDIA A100 Tensor Core GPU Architecture, white paper, 2020, comparison with V100",
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "T4",
        rates={
            "float64": 8_100 * _G // 32,
            "float32": 8_100 * _G,
            "float16": 65_000 * _G,
            "int8": 130_000 * _G,
        },
        vector_rates={"float64": 8_100 * _G // 32, "float32": 8_100 * _G, "float16": 16_200 * _G},
        bandwidth=320 * _G,
        memory=16 * _GIB,
        launch=_GPU_LAUNCH,
        names=("T4$",),
        sources=(
            "rates, bandwidth, memory: NVIDIA T4 Tensor Core GPU data sheet, 2019, specifications",
            f"FP64 (1/32 of FP32), vector rate in FP16 (twice FP32): {_CUDA_GUIDE}, 7.5",
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "A100",
        rates=_A100_RATES,
        vector_rates=_A100_VECTOR_RATES,
        bandwidth=1_555 * _G,
        memory=40 * _GIB,
        launch=_GPU_LAUNCH,
        names=("A100-SXM4-40GB", "A100-PCIE-40GB"),
        sources=_A100_SOURCES,
    ),
    Device(
        "A100-80GB",
        rates=_A100_RATES,
        vector_rates=_A100_VECTOR_RATES,
        bandwidth=2_039 * _G,
        memory=80 * _GIB,
        launch=_GPU_LAUNCH,
        names=("A100-SXM4-80GB",),
        sources=_A100_SOURCES,
    ),
    Device(
        "L4",
        rates={
            "float64": 30_300 * _G // 64,
            "float32": 30_300 * _G,
            "tfloat32": 120_000 * _G // 2,
            "bfloat16": 242_000 * _G // 2,
            "float16": 242_000 * _G // 2,
            "float8": 485_000 * _G // 2,
            "int8": 485_000 * _G // 2,
        },
        vector_rates={"float64": 30_300 * _G // 64, "float32": 30_300 * _G},
        bandwidth=300 * _G,
        memory=24 * _GIB,
        launch=_GPU_LAUNCH,
        names=("L4$",),
        sources=(
            "rates (half of those with sparsity), bandwidth, memory: NVIDIA L4 Tensor Core GPU data sheet, 2023",
            f"FP64 (1/64 of FP32), vector rates of halves (as FP32): {_CUDA_GUIDE}, 8.9",
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "L40S",
        rates={
            "float64": 91_600 * _G // 64,
            "float32": 91_600 * _G,
            "tfloat32": 183_000 * _G,
            "bfloat16": 362_050 * _G,
            "float16": 362_050 * _G,
            "float8": 733_000 * _G,
            "int8": 733_000 * _G,
        },
        vector_rates={"float64": 91_600 * _G // 64, "float32": 91_600 * _G},
        bandwidth=864 * _G,
        memory=48 * _GIB,
        launch=_GPU_LAUNCH,
        names=("L40S$",),
        sources=(
            "rates, bandwidth, memory: NVIDIA L40S data sheet, 2023, on a dealer's page; INT8 (as FP8) not opened",
            f"FP64 (1/64 of FP32), vector rates of halves (as FP32): {_CUDA_GUIDE}, 8.9",
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "A10G",
        rates={
            "float64": 35_000 * _G // 64,
            "float32": 35_000 * _G,
            "tfloat32": 35_000 * _G,
            "bfloat16": 70_000 * _G,
            "float16": 70_000 * _G,
            "int8": 140_000 * _G,
        },
        vector_rates={"float64": 35_000 * _G // 64, "float32": 35_000 * _G},
        bandwidth=600 * _G,
        memory=24 * _GIB,
        launch=_GPU_LAUNCH,
        names=("A10G$",),
        sources=(
            "rates: NVIDIA A10G data sheet for AWS, 2021; not opened",
            "bandwidth, memory: Baseten, NVIDIA A10 vs A10G for ML model inference, 2023",
            f"FP64 (1/64 of FP32), vector rates of halves (as FP32): {_CUDA_GUIDE}, 8.6",
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "H100",
        rates=_HOPPER_RATES,
        vector_rates=_HOPPER_VECTOR_RATES,
        bandwidth=3_350 * _G,
        memory=80 * _GIB,
        launch=_GPU_LAUNCH,
        names=("H100 80GB HBM3",),
        sources=(
            "rates (half of those with sparsity), bandwidth, memory: NVIDIA H100 Tensor Core GPU data sheet, H100 SXM",
            _HOPPER_HALVES,
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "H200",
        rates=_HOPPER_RATES,
        vector_rates=_HOPPER_VECTOR_RATES,
        bandwidth=4_800 * _G,
        memory=141 * _GIB,
        launch=_GPU_LAUNCH,
        names=("H200$",),
        sources=(
            "rates (half of those with sparsity), bandwidth, memory: NVIDIA H200 Tensor Core GPU data sheet, H200 SXM",
            _HOPPER_HALVES,
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "B200",
        rates={
            "float64": 40_000 * _G,
            "float32": 80_000 * _G,
            "tfloat32": 1_100_000 * _G,
            "bfloat16": 2_250_000 * _G,
            "float16": 2_250_000 * _G,
            "float8": 4_500_000 * _G,
            "float4": 9_000_000 * _G,
            "int8": 4_500_000 * _G,
        },
        vector_rates={
            "float64": 40_000 * _G,
            "float32": 80_000 * _G,
            "bfloat16": 160_000 * _G,
            "float16": 160_000 * _G,
        },
        bandwidth=8_000 * _G,
        memory=180 * _GIB,
        launch=_GPU_LAUNCH,
        names=("B200$",),
        sources=(
            "rates, bandwidth: G. Lockwood, B200, HGX variant at 1000 W, from NVIDIA's technical brief, 2024",
            "memory: MLPerf Inference 6.0, system description of nebius_b200_n1",
            _BLACKWELL_HALVES,
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "GB200",
        rates={
            "float64": 45_000 * _G,
            "float32": 90_000 * _G,
            "tfloat32": 1_250_000 * _G,
            "bfloat16": 2_500_000 * _G,
            "float16": 2_500_000 * _G,
            "float8": 5_000_000 * _G,
            "float4": 10_000_000 * _G,
            "int8": 5_000_000 * _G,
        },
        vector_rates={
            "float64": 45_000 * _G,
            "float32": 90_000 * _G,
            "bfloat16": 180_000 * _G,
            "float16": 180_000 * _G,
        },
        bandwidth=8_000 * _G,
        memory=186 * _GIB,
        launch=_GPU_LAUNCH,
        names=("GB200$",),
        sources=(
            (
                "rates, bandwidth, of one of the superchip's two GPUs: G. Lockwood, B200, GB200 variant at 1200 W, "
                "from NVIDIA's technical brief, 2024"
            ),
            "memory: MLPerf Inference 6.1, system description of GB200-NVL72_GB200-186GB",
            _BLACKWELL_HALVES,
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "MI300X",
        rates={
            "float64": 163_400 * _G,
            "float32": 163_400 * _G,
            "tfloat32": 653_700 * _G,
            "bfloat16": 1_307_400 * _G,
            "float16": 1_307_400 * _G,
            "float8": 2_614_900 * _G,
            "int8": 2_614_900 * _G,
        },
        vector_rates={
            "float64": 81_700 * _G,
            "float32": 163_400 * _G,
            "bfloat16": 326_800 * _G,
            "float16": 326_800 * _G,
        },
        bandwidth=8_192 // 8 * 5_200 * 10**6,
        memory=192 * _GIB,
        launch=_GPU_LAUNCH,
        names=("MI300X",),
        sources=(
            "rates, memory, bandwidth (8 stacks, 1024 bits at 5.2 Gbit/s): AMD CDNA 3 white paper, 2023, table 1",
            "rate in TF32: AMD Instinct MI300X accelerator data sheet, 2023",
            "vector rates of halves: assumed, twice FP32",
            _OTHER_GPU_LAUNCH,
        ),
    ),
    Device(
        "MI355X",
        rates=_MI355X,
        vector_rates=_MI355X_VECTOR,
        bandwidth=8_000 * _G,
        memory=288 * _GIB,
        launch=_GPU_LAUNCH,
        names=("MI355X",),
        sources=(
            "256 cores (compute units), memory: ROCm documentation, AMD GPU specifications, MI355X",
            "clock (2.4 GHz): Wccftech on AMD at Hot Chips 2025",
            "work a cycle in FP8 (8192): World Today News on AMD at ISSCC 2026",
            "work a cycle of other rates, of which TF32 has none: AMD CDNA 4 white paper, 2025; not opened",
            "bandwidth: Tom's Hardware, AMD's Instinct MI355X accelerator will consume 1,400 watts, 2025",
            "vector rates of halves: assumed, twice FP32",
            _OTHER_GPU_LAUNCH,
        ),
    ),
    Device(
        "TPU-v5e",
        rates={"float32": 197_000 * _G, "bfloat16": 197_000 * _G, "int8": 393_000 * _G},
        vector_rates={},
        bandwidth=819 * _G,
        memory=16 * _GIB,
        launch=0,
        names=("TPU v5e", "TPU v5 lite"),
        sources=(
            "rates in BF16 and INT8, bandwidth, memory, of one chip: Google Cloud documentation, TPU v5e",
            *_TPU_SOURCES,
        ),
    ),
    Device(
        "TPU-v6e",
        rates={"float32": 918_000 * _G, "bfloat16": 918_000 * _G, "int8": 1_836_000 * _G},
        vector_rates={},
        bandwidth=1_638 * _G,
        memory=32 * _GIB,
        launch=0,
        names=("TPU v6e", "TPU v6 lite"),
        sources=(
            "rates in BF16 and INT8, bandwidth, memory, of one chip: Google Cloud documentation, TPU v6e (Trillium)",
            *_TPU_SOURCES,
        ),
    ),
    Device(
        "RTX-3090",
        rates={
            "float64": 35_600 * _G // 64,
            "float32": 35_600 * _G,
            "tfloat32": 35_600 * _G,
            "bfloat16": 71_000 * _G,
            "float16": 71_000 * _G,
            "int8": 284_000 * _G,
        },
        vector_rates={"float64": 35_600 * _G // 64, "float32": 35_600 * _G},
        bandwidth=936 * _G,
        memory=24 * _GIB,
        launch=_GPU_LAUNCH,
        names=("RTX 3090$",),
        sources=(
            (
                "rates (of halves with FP32 accumulate), bandwidth, memory: NVIDIA Ampere GA102 GPU Architecture, "
                "white paper, 2021, appendix A"
            ),
            f"FP64 (1/64 of FP32), vector rates of halves (as FP32): {_CUDA_GUIDE}, 8.6",
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "RTX-4090",
        rates={
            "float64": 82_600 * _G // 64,
            "float32": 82_600 * _G,
            "tfloat32": 82_600 * _G,
            "bfloat16": 165_200 * _G,
            "float16": 165_200 * _G,
            "float8": 330_300 * _G,
            "int8": 660_600 * _G,
        },
        vector_rates={"float64": 82_600 * _G // 64, "float32": 82_600 * _G},
        bandwidth=1_008 * _G,
        memory=24 * _GIB,
        launch=_GPU_LAUNCH,
        names=("RTX 4090$",),
        sources=(
            (
                "rates (of halves and FP8 with FP32 accumulate), bandwidth, memory: NVIDIA Ada GPU Architecture, "
                "white paper, 2022, appendix A"
            ),
            f"FP64 (1/64 of FP32), vector rates of halves (as FP32): {_CUDA_GUIDE}, 8.9",
            _CUDA_LAUNCH,
        ),
    ),
    Device(
        "jetson-agx-orin",
        rates=_per_cycle(64, 1_300, _ORIN),
        vector_rates=_per_cycle(64, 1_300, _ORIN_VECTOR),
        bandwidth=204_800 * 10**6,
        memory=64 * _GIB,
        launch=_GPU_LAUNCH,
        names=("Jetson AGX Orin",),
        sources=(
            (
                "clock (1.3 GHz), 64 tensor cores, 2048 CUDA cores, bandwidth, memory; the GPU alone, without DLA: "
                "NVIDIA Jetson AGX Orin Series technical brief, 2022, AGX Orin 64GB"
            ),
            *_ORIN_SOURCES,
        ),
    ),
    Device(
        "jetson-orin-nano",
        rates=_per_cycle(32, 625, _ORIN),
        vector_rates=_per_cycle(32, 625, _ORIN_VECTOR),
        bandwidth=68 * _G,
        memory=8 * _GIB,
        launch=_GPU_LAUNCH,
        names=("Jetson Orin Nano Developer Kit$", "Jetson Orin Nano Engineering Reference Developer Kit$"),
        sources=(
            (
                "clock (625 MHz), 32 tensor cores, 1024 CUDA cores, bandwidth, memory: NVIDIA Jetson Orin Nano Series "
                "data sheet, 2023, Orin Nano 8GB; not in its later, faster mode"
            ),
            *_ORIN_SOURCES,
        ),
    ),
    Device(
        "apple-m1",
        rates=_M1,
        vector_rates=_M1,
        bandwidth=4_266 * 10**6 * 16,
        memory=16 * _GIB,
        launch=_GPU_LAUNCH,
        names=("Apple M1$",),
        sources=(
            (
                "rates of the 8-core GPU (1278 MHz, FP16 as FP32): P. Turner, metal-benchmarks; 2.6 teraflops in "
                "Apple Newsroom, Apple unleashes M1, 2020"
            ),
            "bandwidth (128 bits of LPDDR4X-4266), memory: AnandTech, The 2020 Mac Mini Unleashed, 2020",
            _OTHER_GPU_LAUNCH,
        ),
    ),
    Device(
        "raspberry-pi-4",
        rates=_PI_4,
        vector_rates=_PI_4,
        bandwidth=3_200 * 10**6 * 4,
        memory=8 * _GIB,
        launch=_CPU_LAUNCH,
        names=("Raspberry Pi 4 Model B",),
        sources=(
            "4 cores at 1.8 GHz, bandwidth (32 bits of LPDDR4-3200), memory: Raspberry Pi 4 Model B, product brief",
            "work a cycle: Arm Cortex-A72 Software Optimisation Guide, 2015, ASIMD instructions",
            _CPU_DISPATCH,
        ),
    ),
    Device(
        "raspberry-pi-5",
        rates=_PI_5,
        vector_rates=_PI_5,
        bandwidth=4_267 * 10**6 * 4,
        memory=16 * _GIB,
        launch=_CPU_LAUNCH,
        names=("Raspberry Pi 5",),
        sources=(
            "4 cores at 2.4 GHz, bandwidth (32 bits of LPDDR4X-4267), memory: Raspberry Pi 5, product brief",
            "work a cycle: Arm Cortex-A76 Software Optimization Guide, 2019, ASIMD instructions",
            _CPU_DISPATCH,
        ),
    ),
    Device(
        "epyc-7763",
        rates=_EPYC,
        vector_rates=_EPYC,
        bandwidth=204_800 * 10**6,
        memory=4_096 * _GIB,
        launch=_CPU_LAUNCH,
        names=("EPYC 7763",),
        sources=(
            (
                "one socket, 64 cores at 3.5 GHz (highest boost, though all cores never reach it), bandwidth, memory: "
                "AMD EPYC 7763, product specifications, 2021"
            ),
            "work a cycle: AMD Software Optimization Guide for Family 19h, 2020, floating-point unit",
            _CPU_DISPATCH,
        ),
    ),
    Device(
        "xeon-8380",
        rates=_XEON,
        vector_rates=_XEON,
        bandwidth=8 * 3_200 * 10**6 * 8,
        memory=6_144 * _GIB,
        launch=_CPU_LAUNCH,
        names=("Platinum 8380",),
        sources=(
            (
                "one socket, 40 cores at 3.4 GHz (highest turbo, though all cores never reach it), 2 AVX-512 FMA "
                "units, bandwidth (8 channels of DDR4-3200), memory: Intel Xeon Platinum 8380, product specifications, "
                "2021"
            ),
            "work a cycle: Intel 64 and IA-32 Architectures Optimization Reference Manual, Ice Lake server",
            _CPU_DISPATCH,
        ),
    ),
)

#: Name → the device.
DEVICES: Mapping[str, Device] = {device.name: device for device in _PROFILES}


def find_device(name: str, own: Mapping[str, Device] | None = None) -> Device:
    """Return the device called ``name``: one of the ``own`` profiles, or one of the catalog. Case does not matter.

    The name of a driver or a system, such as "NVIDIA A100-SXM4-80GB", is understood too.

    Raises:
        ValueError: no device has the name. The message suggests the nearest name and lists all names.
    """
    devices = {**DEVICES, **(own or {})}
    alike = [device for candidate, device in devices.items() if candidate.casefold() == name.casefold()]
    if alike:
        # A project's own profile replaces a device of the catalog with the same name.
        return alike[-1]
    same = [device for candidate, device in devices.items() if _model_name(candidate) == _model_name(name) != ""]
    recognized = same[-1] if same else recognize_device(name, devices.values())
    if recognized is not None:
        return recognized
    folded = {candidate.casefold(): candidate for candidate in devices}
    near = nearest_spelling(name.casefold(), folded)
    hint = f"; did you mean {folded[near]}?" if near else "."
    raise ValueError(f"no device is named {name!r}{hint} There are {', '.join(devices)}")


def _model_name(name: str) -> str:
    """Return a name without its vendor and its separators: "a100" for "NVIDIA A100"."""
    return re.sub(r"\b(nvidia|tesla|geforce|amd|instinct|intel|gpu)\b|[\W_]", "", name.casefold())


def recognize_device(description: str, devices: Iterable[Device] = tuple(DEVICES.values())) -> Device | None:
    """Return the device that ``description`` names; None if no device matches.

    A laptop variant or a variant with another memory size is a different device.

    Args:
        description: the name in the words of a driver or system: "NVIDIA A100-SXM4-80GB", "Raspberry Pi 5 Model B".
        devices: the devices to search. The first match is returned.
    """
    for device in devices:
        for name in device.names:
            end = r"\Z" if name.endswith("$") else r"(?![\w-])"
            if re.search(rf"(?<![\w-]){re.escape(name.removesuffix('$'))}{end}", description.strip(), re.IGNORECASE):
                return device
    return None


def resolve_devices(devices: Iterable[str | Device]) -> tuple[Device, ...]:
    """Return the devices for names and profiles. Each device is returned once.

    Raises:
        UsageError: a device name is unknown, or ``devices`` is a single name.
    """
    if isinstance(devices, str):
        raise UsageError(f"devices: {devices!r} is a text; write a list, devices=[{devices!r}]")
    try:
        found = [find_device(device) if isinstance(device, str) else device for device in devices]
    except ValueError as error:
        raise UsageError(f"devices: {error}") from None
    return tuple({device.name: device for device in found}.values())
