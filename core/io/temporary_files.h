// The temporary files that AtomicFile has open now, so that nothing that ends the process leaves
// one behind: a signal handler removes them; what a killed process left is removed later.
#pragma once
#include <cstdint>
#include <filesystem>
#include <vector>

namespace vyx {

/// A name for a temporary file in `folder` that no other process takes.
std::filesystem::path temporary_name(const std::filesystem::path& folder);

/// From before a temporary file is made until it is renamed or removed.
void remember_temporary(const std::filesystem::path& path);
void forget_temporary(const std::filesystem::path& path) noexcept;

/// Removes those that are remembered. A signal handler may call it, before it ends the process.
void remove_temporaries() noexcept;

struct Leftover {
  std::filesystem::path path;
  uint64_t bytes = 0;
};
/// Removes what processes that were killed left in `folder`; those of living ones stay, which are
/// recognised by their locks and by their process ids.
std::vector<Leftover> remove_leftovers(const std::filesystem::path& folder);

}  // namespace vyx
