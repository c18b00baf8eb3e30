#include "core/edits/edit_table.h"

#include <ATen/ATen.h>
#include <fmt/ostream.h>

#include <cmath>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/edits/edit_kernel.h"

namespace vyx {
namespace {

/// Checks a reader or writer and returns it as float64 [d].
at::Tensor checked(const at::Tensor& vector, const char* role, size_t term, int64_t width) {
  if (!vector.defined()) fail("edit: term {} has no {}", term, role);
  if (vector.dim() != 1 || vector.size(0) != width || width == 0) {
    fail("edit: the {} of term {} has shape {}, expected [{}], as the first writer", role, term,
         fmt::streamed(vector.sizes()), width);
  }
  at::Tensor wide = vector.detach().to(at::kDouble);
  if (!wide.isfinite().all().item<bool>())
    fail("edit: the {} of term {} has values that are not finite", role, term);
  return wide;
}

at::Tensor stack_as_float(const std::vector<at::Tensor>& rows) {
  return at::stack(rows).to(at::kFloat).contiguous();
}

/// The rows that an edit's terms and conditions read, each once.
class Rows {
 public:
  Rows(const std::optional<Readout>& readout, int64_t width) : readout_(readout), width_(width) {}

  /// A row of its own, for a term.
  int64_t append(const at::Tensor& reader, int64_t column, double bias, const char* role,
                 size_t term) {
    if (readout_) {
      if (column < 0 || column >= readout_->columns) {
        fail("edit: the {} of term {} has column {}, expected one of the readout's {}", role, term,
             column, readout_->columns);
      }
      columns_.push_back(column);
    } else {
      readers_.push_back(checked(reader, role, term, width_));
    }
    given_.push_back(reader);
    biases_.push_back(bias);
    return static_cast<int64_t>(biases_.size()) - 1;
  }
  /// The row of a condition: that of an equal one, if there is any.
  int64_t find_or_append(const Condition& condition, size_t term) {
    for (size_t row = 0; row < biases_.size(); ++row) {
      const bool same =
          readout_ ? columns_[row] == condition.column : given_[row].is_same(condition.reader);
      if (same && biases_[row] == condition.bias) return static_cast<int64_t>(row);
    }
    return append(condition.reader, condition.column, condition.bias, "condition's reader", term);
  }

  void write(EditTable& table, c10::Device device) const {
    if (readout_) {
      table.columns = at::tensor(columns_, at::kLong).to(device);
    } else {
      std::vector<at::Tensor> readers;
      for (const at::Tensor& reader : readers_) readers.push_back(reader.to(device));
      table.readers = stack_as_float(readers);
    }
    table.biases = at::tensor(biases_, at::kDouble).to(device, at::kFloat);
  }

 private:
  const std::optional<Readout>& readout_;
  int64_t width_;
  std::vector<at::Tensor> given_, readers_;
  std::vector<int64_t> columns_;
  std::vector<double> biases_;
};

/// The columns of the table that open its terms, from the conditions of the terms that read.
void write_conditions(EditTable& table, Rows& rows, const std::vector<Term>& terms,
                      const std::vector<int64_t>& reading, c10::Device device) {
  std::vector<int64_t> conditions;
  std::vector<double> floors;
  bool any = false;
  for (const int64_t k : reading) {
    const auto& condition = terms[static_cast<size_t>(k)].condition;
    any |= condition.has_value();
    conditions.push_back(condition ? rows.find_or_append(*condition, static_cast<size_t>(k)) : 0);
    floors.push_back(condition ? 0 : -std::numeric_limits<double>::infinity());
  }
  if (!any) return;
  table.conditions = at::tensor(conditions, at::kLong).to(device);
  table.floors = at::tensor(floors, at::kDouble).to(device, at::kFloat);
}

}  // namespace

EditTable edit_table(const std::vector<Term>& terms, const std::optional<Readout>& readout) {
  if (terms.empty()) fail("edit: found no term, expected at least one");
  const at::Tensor& first = terms.front().writer;
  const int64_t width = first.defined() && first.dim() == 1 ? first.size(0) : 0;
  EditTable table;
  Rows rows(readout, width);
  std::vector<at::Tensor> summands, writers, gates;
  std::vector<double> summand_gates;
  std::vector<int64_t> constant, reading;
  for (size_t k = 0; k < terms.size(); ++k) {
    const auto& [reader, bias, gate, writer, condition, column] = terms[k];
    for (const double number : {bias, gate.constant, gate.linear, gate.rectified, gate.step,
                                condition ? condition->bias : 0}) {
      if (!std::isfinite(number)) fail("edit: term {} has a bias or gate of {}", k, number);
    }
    at::Tensor v = checked(writer, "writer", k, width);  // [d] float64
    if (!gate.reads() && gate.constant == 0) continue;
    if (!gate.reads() && !condition) {
      summands.push_back(std::move(v));
      summand_gates.push_back(gate.constant);
      constant.push_back(static_cast<int64_t>(k));
      continue;
    }
    // A constant under a condition reads what the condition reads.
    rows.append(gate.reads() ? reader : condition->reader,
                gate.reads() ? column : condition->column, gate.reads() ? bias : condition->bias,
                "reader", k);
    writers.push_back(std::move(v));
    gates.push_back(
        at::tensor({gate.constant, gate.linear, gate.rectified, gate.step}, at::kDouble));
    reading.push_back(static_cast<int64_t>(k));
    if (gate.constant != 0) table.uses.constant = 1;
    if (gate.linear != 0) table.uses.linear = 1;
    if (gate.rectified != 0) table.uses.rectified = 1;
    if (gate.step != 0) table.uses.step = 1;
  }

  const c10::Device device = first.device();
  if (!summands.empty()) {
    table.summands = at::stack(summands);
    table.summand_gates = at::tensor(summand_gates, at::kDouble).to(device);
    table.constant_terms = at::tensor(constant, at::kLong).to(device);
    table.constants = (table.summands * table.summand_gates.unsqueeze(1)).to(at::kFloat);
    Compute compute;
    table.constant = constant_sum(compute, table).to(at::kFloat);
  }
  if (!writers.empty()) {
    write_conditions(table, rows, terms, reading, device);
    rows.write(table, device);
    table.gates = stack_as_float(gates).t().contiguous().to(device);
    table.writers = stack_as_float(writers);
    table.reading_terms = at::tensor(reading, at::kLong).to(device);
  }
  return table;
}

EditTable EditTable::to(c10::Device device) const {
  EditTable moved = *this;
  for (at::Tensor* tensor :
       {&moved.constant, &moved.constants, &moved.summands, &moved.summand_gates,
        &moved.constant_terms, &moved.readers, &moved.columns, &moved.biases, &moved.gates,
        &moved.writers, &moved.reading_terms, &moved.conditions, &moved.floors}) {
    if (tensor->defined()) *tensor = tensor->to(device);
  }
  return moved;
}

}  // namespace vyx
