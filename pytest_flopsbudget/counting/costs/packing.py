"""Free operators of PyTorch outside of ATen: they do no floating-point arithmetic that belongs to the model.

These operators pack, unpack, reorder and cast weights, query tensors, wait for streams, or draw random numbers.
Preparing a weight before the model runs is not part of the model's work.
"""

from __future__ import annotations

from pytest_flopsbudget.counting.costs.registry import operator

_CONVOLUTIONS = "conv1d conv2d conv3d conv conv_transpose1d conv_transpose2d conv_transpose3d"
_SETTINGS = "dilation groups output_padding padding stride transpose unpack_sizes"

_QUANTIZED = """
cat cat_out embedding_4bit embedding_byte embedding_bag_2bit_prepack embedding_bag_2bit_prepack_with_rowwise_min_max
embedding_bag_2bit_unpack embedding_bag_4bit_prepack embedding_bag_4bit_prepack_with_rowwise_min_max
embedding_bag_4bit_unpack embedding_bag_byte_prepack embedding_bag_byte_prepack_with_rowwise_min_max
embedding_bag_byte_unpack embedding_bag_prepack embedding_bag_unpack linear_prepack linear_prepack_fp16
linear_prepack_fp16_legacy linear_prepack_legacy linear_unpack linear_unpack_fp16 make_quantized_cell_params
make_quantized_cell_params_dynamic make_quantized_cell_params_fp16
"""

_ONEDNN = """
mkl._mkl_reorder_linear_weight mkldnn._get_mkldnn_serialized_md mkldnn._is_mkldnn_acl_supported
mkldnn._is_mkldnn_bf16_supported mkldnn._is_mkldnn_fp16_supported mkldnn._nbytes
mkldnn._reorder_convolution_transpose_weight mkldnn._reorder_convolution_weight mkldnn._reorder_linear_weight
mkldnn._reorder_mkldnn_rnn_layer_weight mkldnn.data_ptr mkldnn_prepacked.conv2d_prepack onednn.linear_prepack_fp16
onednn.qconv_prepack onednn.qlinear_prepack prepacked.conv2d_clamp_prepack prepacked.conv2d_transpose_clamp_prepack
prepacked.linear_clamp_prepack prepacked.unpack_prepacked_sizes_conv2d prepacked.unpack_prepacked_sizes_linear
sparse.qlinear_prepack sparse.qlinear_unpack
"""

_COMPILER = """
coor.current_device coor.current_device_index debug_mode_ops.annotate debugprims.load_tensor
export.access_subclass_inner_tensor flex_gemm.to_blocked inductor._alloc_from_pool inductor._reinterpret_tensor
inductor.resize_storage_bytes inductor_prims.inductor_reserve_rng_state mempool.begin mempool.end
quantized_decomposed.convert_element_type rngprims.philox_rand
"""

_STATIC_RUNTIME = """
VarTupleUnpack create_owned_ref dict_unpack expand_dims_copy flatten_copy fused_equally_split permute_copy reshape_copy
select_tensor to_copy to_maybe_copy_out
"""

_STREAMS = """
fork join record_event record_stream sync_dealloc synchronize_device synchronize_event synchronize_stream wait_event
wait_stream
"""

operator(
    *(
        f"{namespace}.{kind}_{what}"
        for namespace in ("quantized", "_quantized")
        for kind in _CONVOLUTIONS.split()
        for what in ("prepack", "unpack", *_SETTINGS.split())
    ),
    *(f"{namespace}.{name}" for namespace in ("quantized", "_quantized") for name in _QUANTIZED.split()),
    "_quantized._wrapped_linear_prepack",
    "_quantized.wrapped_fbgemm_pack_gemm_matrix_fp16",
    "quantization._Bfloat16QuantizedToFloat",
    "quantization._FloatToBfloat16Quantized",
    *_ONEDNN.split(),
    *_COMPILER.split(),
    *(f"static_runtime.{name}" for name in _STATIC_RUNTIME.split()),
    *(f"streams.{name}" for name in _STREAMS.split()),
    free=True,
)
