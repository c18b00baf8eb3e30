// What a TorchScript archive could do to its reader, read off the file before LibTorch loads it:
// its loader runs the archive's __setstate__ methods, and does not check what pickles say of sizes.
#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace vyx {

/// Throws Error naming `source`, the code's file and line, and what is wrong, unless
///
///     the zip file is strict (core/formats/zip.h), its weights stored, all in one folder;
///     its code nests within bounds, and names only harmless operators (script_operators.h);
///     its pickles hold plain values, tensors within their records, and objects of its own classes.
///
/// The code is read as text and not compiled: every name in it is looked at, wherever it stands, so
/// that no way to reach an operator has to be known, and nothing of the file runs.
void vet_script(std::span<const std::byte> archive, const std::string& source);

}  // namespace vyx
