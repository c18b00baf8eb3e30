// The linear assignment problem: each row its own column, at the least total cost.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace vyx::sae {

/// Which column each row of `cost` [rows, columns] (float32 or float64, CPU) is given, so that the
/// sum of the costs is least; −1 for the rows that get none when there are more rows than columns.
/// In float64, O(rows²·columns) at worst: shortest augmenting paths (Jonker and Volgenant 1987,
/// Computing 38; Crouse 2016 for rectangles) after a greedy start. Throws Error for a cost that is
/// not finite.
std::vector<int64_t> assign(const at::Tensor& cost);

}  // namespace vyx::sae
