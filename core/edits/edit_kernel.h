// What an edit computes, once for C++ (edit.cpp) and for TorchScript (baked_edit.cpp): `Run` is
// Compute or Script (operators.h).
#pragma once
#include <array>
#include <cstdint>
#include <optional>

#include "core/edits/edit_table.h"
#include "core/edits/operators.h"
#include "core/edits/term.h"

namespace vyx {

/// Calls the readout: z [.., columns], spread [.., 1] or none, base [.., d] or none.
std::array<at::Tensor, 3> readout_at(Compute& run, const Readout& readout, const at::Tensor& x);
std::array<std::string, 3> readout_at(Script& run, const Readout& readout, const std::string& x);

/// Coefficients of the terms one by one, against x [batch, .., d]; none: 1.
template <class Value>
struct TermCoefficients {
  Value reading;   // of the terms that read [batch, 1, .., reading]
  Value constant;  // of the others, times their constant vectors, summed [batch, 1, .., d]
};

/// g of the terms that read [.., reading], from their rows and those of conditions [.., rows].
/// `parts` is not 0 for each part of a gate that is computed.
template <class Run>
typename Run::Value gate(Run& run, const EditTable& table, const Gate& parts,
                         const typename Run::Value& rows) {
  using Value = typename Run::Value;
  const Value gates = run.attribute("gates", table.gates);
  const int64_t reading = table.gates.size(1);
  const Value z = table.biases.size(0) == reading ? rows : run(op::first_columns, rows, reading);
  Value sum = Run::none();
  const auto plus = [&](const Value& part) {
    sum = Run::is_none(sum) ? part : run(op::plus, sum, part);
  };
  if (parts.linear != 0) plus(run(op::times, z, run(op::row, gates, int64_t{1})));
  if (parts.rectified != 0) {
    const Value rectified = run(op::relu, z);
    plus(run(op::times, rectified, run(op::row, gates, int64_t{2})));
  }
  if (parts.step != 0) {
    const Value step = run(op::above, z, int64_t{0}, gates);
    plus(run(op::times, step, run(op::row, gates, int64_t{3})));
  }
  if (parts.constant != 0) plus(run(op::row, gates, int64_t{0}));
  if (!table.conditions.defined()) return sum;
  const Value opener = run(op::columns, rows, run.attribute("conditions", table.conditions));
  const Value open = run(op::above, opener, run.attribute("floors", table.floors), gates);
  return run(op::times, sum, open);
}

/// v [.., d], or what is broadcast to it; none where the edit adds nothing.
template <class Run>
typename Run::Value vector_at(Run& run, const EditTable& table,
                              const std::optional<Readout>& readout, const Gate& parts,
                              const typename Run::Value& x,
                              const TermCoefficients<typename Run::Value>& coefficients) {
  using Value = typename Run::Value;
  std::array<Value, 3> found{Run::none(), Run::none(), Run::none()};
  if (readout) found = readout_at(run, *readout, x);
  const auto& [z, spread, base] = found;
  Value v = Run::none();
  if (table.gates.defined()) {
    const Value biases = run.attribute("biases", table.biases);
    Value rows;  // [.., rows]
    if (readout) {
      rows = run(op::columns, z, run.attribute("columns", table.columns));
      rows = run(op::plus, rows, biases);
    } else {
      const Value single = run(op::in_type_of, x, biases);
      rows = run(op::linear, single, run.attribute("readers", table.readers), biases);
    }
    Value open = gate(run, table, parts, rows);  // [.., reading]
    if (!Run::is_none(coefficients.reading)) open = run(op::times, open, coefficients.reading);
    v = run(op::matmul, open, run.attribute("writers", table.writers));
  }
  if (table.constant.defined()) {
    const Value constant = Run::is_none(coefficients.constant)
                               ? run.attribute("constant", table.constant)
                               : coefficients.constant;
    v = Run::is_none(v) ? constant : run(op::plus, v, constant);
  }
  if (!readout) return v;
  if (Run::is_none(v)) return base;
  v = run(op::times_if, v, spread);
  return run(op::plus_if, v, base);
}

/// y [.., d] = x + c · v; x itself where c is 0. `c` is a number, or a tensor against x.
template <class Run, class Coefficient>
typename Run::Value edited(Run& run, const EditTable& table, const std::optional<Readout>& readout,
                           const Gate& parts, const typename Run::Value& x, const Coefficient& c,
                           const TermCoefficients<typename Run::Value>& coefficients = {
                               Run::none(), Run::none()}) {
  if (run.returns_at_zero(c, x)) return x;
  return run(op::moved, x, vector_at(run, table, readout, parts, x, coefficients), c);
}

/// The sum of the vectors of the terms that read nothing [d] float64.
template <class Run>
typename Run::Value constant_sum(Run& run, const EditTable& table) {
  return run(op::weighted_sum, run.attribute("summands", table.summands),
             run.attribute("summand_gates", table.summand_gates));
}

}  // namespace vyx
