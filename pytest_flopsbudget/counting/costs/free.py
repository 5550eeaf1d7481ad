"""ATen's operators that do no floating-point arithmetic, although their schemas do not show it.

These operators move, select, cast or store elements, draw random numbers, or query tensors. Views, factories and
operators that decompose are recognized by their schemas, so they are not listed here. One name stands for all overloads
of an operator and for its in-place form. An operator without a formula and without an entry here is unknown. The files
`communication.py` and `packing.py` list PyTorch's free operators outside of ATen.
"""

from __future__ import annotations

from pytest_flopsbudget.counting.costs.registry import operator

_SELECTIONS_AND_TESTS = """
_foreach_clone _foreach_copy _foreach_zero _fused_sdp_choice _is_all_true _is_any_true _linalg_check_errors
_nested_sum_backward _sparse_sum_backward _use_cudnn_ctc_loss complex hash_tensor imag lu_unpack masked_fill real where
zero
"""

_RANDOM = """
_fill_mem_eff_dropout_mask _philox_key_fold_in _philox_key_split _philox_normal _philox_uniform _sample_dirichlet
_standard_gamma bernoulli binomial cauchy exponential geometric log_normal multinomial normal normal_functional poisson
rand_like randint_like randn_like random uniform
"""

_INDEXING = """
_chunk_cat _pack_padded_sequence _stack _unsafe_index _unsafe_masked_index as_strided_scatter block_diag cat
channel_shuffle clone constant_pad_nd diag_embed diagonal_backward diagonal_scatter embedding flip gather im2col index
index_copy index_fill index_select masked_scatter masked_scatter_backward masked_select nonzero nonzero_static
pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave
replication_pad1d replication_pad2d replication_pad3d roll rot90 select_backward select_scatter slice_backward
slice_scatter stack take tril triu unsafe_split unsafe_split_with_sizes
"""

_STORAGE = """
_assert_async _assert_tensor_metadata _coalesced _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo
_convert_weight_to_int4pack _convert_weight_to_int4pack_for_cpu _copy_from _copy_from_and_resize _cslt_compress
_cudnn_rnn_flatten_weight _dimI _dimV _dyn_quant_pack_4bit_weight _empty_per_channel_affine_quantized
_functional_assert_async _functional_assert_scalar _functional_sym_constrain_range
_functional_sym_constrain_range_for_size _has_same_storage_numel _jagged_to_padded_dense_forward _lazy_clone
_local_scalar_dense _make_per_channel_quantized_tensor _make_per_tensor_quantized_tensor _mkldnn_reshape
_mkldnn_transpose _nested_compute_contiguous_strides_offsets _nested_from_padded _nested_from_padded_and_nested_example
_nested_from_padded_tensor _nested_get_jagged_dummy _nested_get_lengths _nested_get_max_seqlen _nested_get_min_seqlen
_nested_get_offsets _nested_get_ragged_idx _nested_select_backward _nested_tensor_from_mask
_nested_tensor_from_mask_left_aligned _nested_tensor_from_tensor_list _nested_tensor_size _nested_tensor_storage_offsets
_nested_tensor_strides _new_zeros_with_same_feature_meta _nnz _padded_dense_to_jagged_forward _pin_memory _reshape_copy
_resize_output _sparse_coo_tensor_with_dims_and_tensors _sparse_mask_projection _sparse_semi_structured_apply
_sparse_semi_structured_apply_dense _sparse_semi_structured_tile _spdiags _to_copy _to_dense _to_sparse _to_sparse_bsc
_to_sparse_bsr _to_sparse_csc _to_sparse_csr _to_sparse_semi_structured _unsafe_view _use_miopen_ctc_loss
_validate_compressed_sparse_indices as_strided copy copy_sparse_to_sparse dense_dim detach empty_like empty_quantized
fill full_like int_repr is_coalesced is_pinned is_same_size is_set_to lift linspace logspace
mkldnn_reorder_conv2d_weight mkldnn_reorder_conv3d_weight new_empty new_empty_strided new_full new_ones new_zeros
ones_like q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point qscheme record_stream
resize resize_as resize_as_sparse set sparse_compressed_tensor sparse_dim sparse_mask sparse_resize
sparse_resize_and_clear squeeze t to_mkldnn to_padded_tensor transpose unsqueeze zeros_like
"""

operator(
    *(f"aten.{name}" for name in (_SELECTIONS_AND_TESTS + _RANDOM + _INDEXING + _STORAGE).split()),
    free=True,
)
