// Control vectors as GGUF files.
//
// When every site is a block's output, the file is what llama.cpp and repeng read:
// `general.architecture` = "controlvector", `controlvector.model_hint`, `controlvector.layer_count`
// (u32), and one F32 tensor `direction.{k}` for the output of block k. Provenance and statistics
// are in extra `vyx.*` keys, which they ignore. A vector for block 0 or for other sites can't be
// said in that layout: its tensors are `site.{i}` with their sites in `vyx.sites`, and llama.cpp
// refuses the file instead of applying it at the wrong place.
#pragma once
#include <filesystem>
#include <string>

#include "steering/directions/control_vector.h"

namespace vyx::steering {

void write_control_vector(const ControlVector& vector, const std::filesystem::path& path);

/// Reads ours, repeng's and llama.cpp's. `block_path` places a foreign file's direction.k:
/// `{block_path}.k:output`. `warning`, when not null, receives what the user should know: a
/// cvector-generator file is applied one block late by llama.cpp itself (its direction.{k+1} is
/// block k's). Throws Error for another kind of GGUF, mixed widths, tensors that are not
/// one-dimensional F32, values that are not finite.
ControlVector read_control_vector(const std::filesystem::path& path,
                                  const std::string& block_path = "model.layers",
                                  std::string* warning = nullptr);

}  // namespace vyx::steering
