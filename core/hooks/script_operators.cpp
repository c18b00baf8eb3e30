#include "core/hooks/script_operators.h"

#include <torch/csrc/jit/runtime/operator.h>

#include <algorithm>
#include <iterator>
#include <string>

namespace vyx {
namespace {

// Public operators of aten that are not harmless: files; views and storages whose bounds are the
// caller's to keep; kernels that trust what another operator packed.
constexpr std::string_view kHarmful[] = {"save",          "from_file",
                                         "set",           "set_",
                                         "set_data",      "resize_",
                                         "resize_as_",    "as_strided",
                                         "as_strided_",   "as_strided_copy",
                                         "data_ptr",      "resize_as_sparse_",
                                         "hash",          "as_strided_scatter",
                                         "segment_reduce"};
constexpr std::string_view kHarmfulFamilies[] = {"cudnn_",  "miopen_",    "mkldnn_", "mps_",
                                                 "fbgemm_", "quantized_", "sparse_"};

// Those that begin with one underscore are LibTorch's own, and trust their caller: but for these,
// which scripting and tracing write. With two they are Python's, as __and__, or a loop's.
constexpr std::string_view kUnderscored[] = {"_convolution",
                                             "_convolution_mode",
                                             "_set_item",
                                             "_weight_norm",
                                             "_softmax",
                                             "_log_softmax",
                                             "_shape_as_tensor",
                                             "_reshape_from_tensor",
                                             "_unique2",
                                             "_dim_arange",
                                             "_pack_padded_sequence",
                                             "_pad_packed_sequence",
                                             "_native_multi_head_attention",
                                             "_transformer_encoder_layer_fwd",
                                             "_nested_tensor_from_mask",
                                             "_nested_tensor_from_mask_left_aligned",
                                             "_list_to_tensor",
                                             "_tensor_to_list",
                                             "_size_if_not_equal",
                                             "_grad_sum_to_size",
                                             "_autocast_to_reduced_precision",
                                             "_autocast_to_full_precision",
                                             "_get_tracing_state",
                                             "_assert_async",
                                             "_upsample_bicubic2d_aa",
                                             "_upsample_bilinear2d_aa",
                                             "_upsample_lanczos2d_aa",
                                             "_upsample_nearest_exact1d",
                                             "_upsample_nearest_exact2d",
                                             "_upsample_nearest_exact3d"};

// Of prim: what values say of themselves, and what the printer of archives writes.
constexpr std::string_view kPrim[] = {"NumToTensor",
                                      "RaiseException",
                                      "Uninitialized",
                                      "unchecked_cast",
                                      "unchecked_unwrap_optional",
                                      "device",
                                      "dtype",
                                      "layout",
                                      "type",
                                      "requires_grad",
                                      "data",
                                      "grad",
                                      "index",
                                      "itemsize",
                                      "nbytes",
                                      "ndim",
                                      "name",
                                      "names",
                                      "shape",
                                      "T",
                                      "H",
                                      "mT",
                                      "mH",
                                      "abs",
                                      "max",
                                      "min",
                                      "tolist"};

template <class List>
bool is_in(const List& list, std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

bool is_harmful_public(std::string_view name) {
  return is_in(kHarmful, name) ||
         (name != "sparse_dim" &&
          std::any_of(std::begin(kHarmfulFamilies), std::end(kHarmfulFamilies),
                      [&](std::string_view family) { return name.starts_with(family); }));
}

}  // namespace

bool is_harmless_operator(std::string_view space, std::string_view name) {
  if (space == "prim") return is_in(kPrim, name) || name.starts_with("is_");
  if (space != "aten") return false;
  if (name.starts_with("_")) return name.starts_with("__") || is_in(kUnderscored, name);
  return !is_harmful_public(name);
}

bool is_harmless_member(std::string_view name) {
  return is_harmless_operator("aten", name) ||
         torch::jit::getAllOperatorsFor(c10::Symbol::aten(std::string(name))).empty();
}

}  // namespace vyx
