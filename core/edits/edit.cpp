#include "core/edits/edit.h"

#include <ATen/ATen.h>
#include <fmt/ostream.h>

#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/script_error.h"

namespace vyx {
namespace {

/// `direction` [d] with norm 1, in float64.
at::Tensor unit(const at::Tensor& direction) {
  if (!direction.defined()) fail("edit: the direction is undefined");
  const at::Tensor wide = direction.detach().to(at::kDouble);
  const double norm = wide.norm().item<double>();
  if (!(norm > 0) || !std::isfinite(norm))
    fail("edit: found a direction of norm {}, expected one that is not zero", norm);
  return wide / norm;
}

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

at::Tensor on(const at::Tensor& tensor, const at::Tensor& like) {
  return tensor.device() == like.device() ? tensor : tensor.to(like.device());
}

/// A column of a per-row table against x [batch, .., *]: [batch, 1, .., 1, k].
at::Tensor by_row(const at::Tensor& columns, const at::Tensor& x) {
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape.front() = columns.size(0);
  shape.back() = columns.size(1);
  return columns.reshape(shape);
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

  void write(Edit::Table& table, const at::Tensor& like) const {
    if (readout_) {
      table.columns = at::tensor(columns_, at::kLong).to(like.device());
    } else {
      std::vector<at::Tensor> readers;
      for (const at::Tensor& reader : readers_) readers.push_back(on(reader, like));
      table.readers = stack_as_float(readers);
    }
    table.biases = at::tensor(biases_, at::kDouble).to(like.device(), at::kFloat);
  }

 private:
  const std::optional<Readout>& readout_;
  int64_t width_;
  std::vector<at::Tensor> given_, readers_;
  std::vector<int64_t> columns_;
  std::vector<double> biases_;
};

std::array<at::Tensor, 3> run(const Readout& readout, const at::Tensor& x) {
  try {
    torch::jit::Module module = readout.module;
    const c10::IValue read = module.forward({x});
    std::array<at::Tensor, 3> result;
    for (size_t i = 0; i < result.size(); ++i) {
      const c10::IValue& part = read.toTupleRef().elements()[i];
      if (part.isTensor()) result[i] = part.toTensor();
    }
    return result;
  } catch (const std::exception& error) {
    fail("the edit's readout: {}", reason_of(error));
  }
}

}  // namespace

Term add(const at::Tensor& vector) {
  return {.reader = {}, .gate = {.constant = 1}, .writer = vector};
}

Term ablate(const at::Tensor& direction) {
  const at::Tensor v = unit(direction);  // [d]
  return {.reader = v, .gate = {.linear = -1}, .writer = v};
}

Term clamp(const at::Tensor& direction, double value) {
  const at::Tensor v = unit(direction);  // [d]
  return {.reader = v, .gate = {.constant = value, .rectified = -1}, .writer = v};
}

Edit::Edit(std::vector<Term> terms, std::optional<Readout> readout)
    : terms_(std::move(terms)), readout_(std::move(readout)) {
  if (terms_.empty()) fail("edit: found no term, expected at least one");
  const at::Tensor& first = terms_.front().writer;
  width_ = first.defined() && first.dim() == 1 ? first.size(0) : 0;
  Rows rows(readout_, width_);
  std::vector<at::Tensor> constants, writers, gates;
  for (size_t k = 0; k < terms_.size(); ++k) {
    const auto& [reader, bias, gate, writer, condition, column] = terms_[k];
    for (const double number : {bias, gate.constant, gate.linear, gate.rectified, gate.step,
                                condition ? condition->bias : 0}) {
      if (!std::isfinite(number)) fail("edit: term {} has a bias or gate of {}", k, number);
    }
    at::Tensor v = checked(writer, "writer", k, width_);  // [d] float64
    if (!gate.reads() && gate.constant == 0) continue;
    if (!gate.reads() && !condition) {
      constants.push_back(v * gate.constant);
      table_.constant_terms.push_back(static_cast<int64_t>(k));
      continue;
    }
    // A constant under a condition reads what the condition reads.
    rows.append(gate.reads() ? reader : condition->reader,
                gate.reads() ? column : condition->column, gate.reads() ? bias : condition->bias,
                "reader", k);
    writers.push_back(std::move(v));
    gates.push_back(
        at::tensor({gate.constant, gate.linear, gate.rectified, gate.step}, at::kDouble));
    table_.reading_terms.push_back(static_cast<int64_t>(k));
    table_.uses.constant += gate.constant != 0;
    table_.uses.linear += gate.linear != 0;
    table_.uses.rectified += gate.rectified != 0;
    table_.uses.step += gate.step != 0;
  }
  std::vector<int64_t> conditions;
  std::vector<double> floors;
  bool conditional = false;
  for (const int64_t k : table_.reading_terms) {
    const auto& condition = terms_[static_cast<size_t>(k)].condition;
    conditional |= condition.has_value();
    conditions.push_back(condition ? rows.find_or_append(*condition, static_cast<size_t>(k)) : 0);
    floors.push_back(condition ? 0 : -std::numeric_limits<double>::infinity());
  }

  const auto device = first.device();
  constant_of_ = at::tensor(table_.constant_terms, at::kLong).to(device);
  reader_of_ = at::tensor(table_.reading_terms, at::kLong).to(device);
  if (!constants.empty()) {
    constants_ = stack_as_float(constants);
    table_.constant = at::stack(constants).sum(0).to(at::kFloat);
  }
  if (!writers.empty()) {
    rows.write(table_, first);
    table_.gates = stack_as_float(gates).t().contiguous().to(device);
    table_.writers = stack_as_float(writers);
    if (conditional) {
      table_.conditions = at::tensor(conditions, at::kLong).to(device);
      table_.floors = at::tensor(floors, at::kDouble).to(device, at::kFloat);
    }
  }
  for (double* part :
       {&table_.uses.constant, &table_.uses.linear, &table_.uses.rectified, &table_.uses.step}) {
    *part = *part != 0;
  }
}

/// What an edit finds at x.
struct Edit::Reading {
  at::Tensor gates;         // [.., reading]; undefined when no term reads
  at::Tensor spread, base;  // [.., 1], [.., d]; undefined: 1, 0
};

// bake.cpp writes the operators of the next four functions, one by one, as TorchScript: change them
// together.
Edit::Reading Edit::read(const at::Tensor& x) const {
  Reading reading;
  if (readout_) {
    const auto [z, spread, base] = run(*readout_, x);  // [.., columns], [.., 1], [.., d]
    reading.spread = spread;
    reading.base = base;
    if (table_.gates.defined())
      reading.gates = gate(z.index_select(-1, on(table_.columns, z)) + on(table_.biases, z));
  } else if (table_.gates.defined()) {
    reading.gates = gate(at::linear(x.to(at::kFloat), on(table_.readers, x), on(table_.biases, x)));
  }
  return reading;
}

at::Tensor Edit::gate(const at::Tensor& rows) const {  // [.., rows] → [.., reading]
  const at::Tensor gates = on(table_.gates, rows);     // [4, reading]
  const at::Tensor z = rows.size(-1) == gates.size(1) ? rows : rows.narrow(-1, 0, gates.size(1));
  at::Tensor sum;
  const auto plus = [&](const at::Tensor& part) { sum = sum.defined() ? sum + part : part; };
  if (table_.uses.linear != 0) plus(z * gates[1]);
  if (table_.uses.rectified != 0) plus(at::relu(z) * gates[2]);
  if (table_.uses.step != 0) plus(at::gt(z, 0).to(at::kFloat) * gates[3]);
  if (table_.uses.constant != 0) plus(gates[0]);
  if (!table_.conditions.defined()) return sum;
  return sum * at::gt(rows.index_select(-1, on(table_.conditions, rows)), on(table_.floors, rows))
                   .to(at::kFloat);
}

at::Tensor Edit::sum(const Reading& reading, const at::Tensor& gates,
                     const at::Tensor& constant) const {
  at::Tensor v;  // [.., d], or what is broadcast to it; undefined: 0
  const auto plus = [&](const at::Tensor& part) { v = v.defined() ? v + part : part; };
  if (gates.defined()) plus(at::matmul(gates, on(table_.writers, gates)));
  if (constant.defined()) plus(constant);
  if (reading.spread.defined() && v.defined()) v = v * reading.spread;
  if (reading.base.defined()) plus(reading.base);
  return v;
}

at::Tensor Edit::vector_at(const at::Tensor& x) const {
  const Reading reading = read(x);
  return sum(reading, reading.gates,
             table_.constant.defined() ? on(table_.constant, x) : table_.constant);
}

at::Tensor Edit::apply_scaled(const at::Tensor& x, double coefficient) const {
  if (x.dim() == 0 || x.size(-1) != width_) {
    fail("the activation is {}, expected {} values in its last dimension", fmt::streamed(x.sizes()),
         width_);
  }
  if (!x.is_floating_point()) {
    fail("the activation is of type {}, expected floating point", c10::toString(x.scalar_type()));
  }
  if (coefficient == 0) return x;
  const at::Tensor v = vector_at(x);
  return v.defined() ? x + (v * coefficient).to(x.scalar_type()) : x;
}

at::Tensor Edit::apply(const at::Tensor& x, const at::Tensor& coefficients) const {
  if (!coefficients.defined()) return apply_scaled(x, 1);
  if (coefficients.dim() == 0 && !coefficients.requires_grad())
    return apply_scaled(x, coefficients.item<double>());
  apply_scaled(x, 0);  // the checks
  const at::Tensor c = coefficients.to(x.device(), at::kFloat);
  if (c.dim() > 0 && (c.dim() > 2 || x.dim() < 2 || c.size(0) != x.size(0))) {
    fail(
        "the coefficients are {}, the activation is {}; expected a scalar, one a row [batch] or "
        "one a row and term [batch, terms]",
        fmt::streamed(c.sizes()), fmt::streamed(x.sizes()));
  }
  if (c.dim() == 2 && c.size(1) != static_cast<int64_t>(terms_.size())) {
    fail("the coefficients are {}, expected [batch, {}], one for each term",
         fmt::streamed(c.sizes()), terms_.size());
  }

  at::Tensor v;  // [batch, .., d]
  if (c.dim() < 2) {
    v = vector_at(x);
    if (v.defined()) v = v * (c.dim() == 0 ? c : by_row(c.unsqueeze(1), x));
  } else {
    const Reading reading = read(x);
    at::Tensor gates, constant;  // [batch, .., reading], [batch, 1, .., d]
    if (reading.gates.defined())
      gates = reading.gates * by_row(c.index_select(1, on(reader_of_, x)), x);
    if (constants_.defined())
      constant = by_row(at::matmul(c.index_select(1, on(constant_of_, x)), on(constants_, x)), x);
    v = sum(reading, gates, constant);
  }
  return v.defined() ? x + v.to(x.scalar_type()) : x;
}

at::Tensor implicit_vector(const Edit& edit, const at::Tensor& x, const at::Tensor& coefficients) {
  return edit.apply(x, coefficients) - x;
}

}  // namespace vyx
