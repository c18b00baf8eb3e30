// The TorchScript of a decoder's parts, assembled from its spec: sites exist only where they act,
// and nothing is decided at run time that the spec decides.
//
// Every class calls its submodules with `.forward(…)`, so that each of them is a site. Numbers as
// dtypes are TorchScript's own: 4 int64, 6 float32, 11 bool.
#pragma once
#include <string>

#include "models/architectures/decoder_spec.h"

namespace vyx::models {

/// The module of a kind of rotary positions: "rotary_emb", "rotary_emb_1", …
std::string rotary_name(size_t kind);

std::string embedding_script(double scale);
std::string norm_script(NormKind kind);
std::string linear_script(bool bias);
std::string rotary_script();
std::string attention_script(const DecoderSpec& spec, const BlockSpec& block);
std::string mlp_script(const MlpSpec& spec);
std::string block_script(const DecoderSpec& spec, const BlockSpec& block);
/// All blocks with masks and positions, from token ids or from the input of a block on.
std::string model_script(const DecoderSpec& spec);
/// The methods of models/language_model/language_model.h.
std::string root_script(const DecoderSpec& spec);

}  // namespace vyx::models
