// The terms of an edit as stacked tensors: what C++ and a baked module compute with.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "core/edits/term.h"

namespace vyx {

/// float32 where nothing else is said. Terms "read" when their gate does, or their condition.
struct EditTable {
  at::Tensor constant;   // Σ constant_k · v_k over the terms that read nothing [d]; undefined, as
                         // the next four, when every term reads
  at::Tensor constants;  // these vectors one by one, constant_k · v_k [constants, d]
  at::Tensor summands;   // their v_k [constants, d] float64
  at::Tensor summand_gates;   // their constant_k [constants] float64
  at::Tensor constant_terms;  // which terms these are [constants] int64

  at::Tensor readers;  // u of the terms that read, then w of conditions [rows, d]; undefined with a
                       // readout
  at::Tensor columns;  // those of the readout [rows] int64; undefined without one
  at::Tensor biases;   // b, then b' [rows]; undefined, as all below, when no term reads
  at::Tensor gates;    // constant, linear, rectified, step [4, reading]
  at::Tensor writers;  // v [reading, d]
  at::Tensor reading_terms;  // which terms these are [reading] int64
  at::Tensor conditions;  // the row that opens each term [reading] int64; undefined, as `floors`,
                          // when no term has a condition
  at::Tensor floors;  // above which it opens: 0, or −inf for a term without a condition [reading]
  Gate uses;          // 1 for each part of a gate that a reading term has

  EditTable to(c10::Device device) const;
};

/// On the device of the first writer. Throws Error as Edit does.
EditTable edit_table(const std::vector<Term>& terms, const std::optional<Readout>& readout);

}  // namespace vyx
