#include "core/edit.h"

#include <ATen/ATen.h>
#include <fmt/ostream.h>

#include <cmath>
#include <utility>

#include "core/error.h"

namespace vyx {
namespace {

/// `direction` [d] with norm 1, in float64.
at::Tensor unit(const at::Tensor& direction) {
  if (!direction.defined()) fail("edit: the direction is undefined");
  const at::Tensor wide = direction.detach().to(at::kDouble);
  const double norm = wide.norm().item<double>();
  if (!(norm > 0) || !std::isfinite(norm)) fail("edit: found a direction of norm {}, expected one that is not zero", norm);
  return wide / norm;
}

/// Checks a reader or writer and returns it as float64 [d].
at::Tensor checked(const at::Tensor& vector, const char* role, size_t term, int64_t width) {
  if (!vector.defined()) fail("edit: term {} has no {}", term, role);
  if (vector.dim() != 1 || vector.size(0) != width || width == 0) {
    fail("edit: the {} of term {} has shape {}, expected [{}], as the first writer", role, term, fmt::streamed(vector.sizes()), width);
  }
  at::Tensor wide = vector.detach().to(at::kDouble);
  if (!wide.isfinite().all().item<bool>()) fail("edit: the {} of term {} has values that are not finite", role, term);
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

Edit::Edit(std::vector<Term> terms) : terms_(std::move(terms)) {
  if (terms_.empty()) fail("edit: found no term, expected at least one");
  width_ = terms_.front().writer.defined() && terms_.front().writer.dim() == 1 ? terms_.front().writer.size(0) : 0;
  std::vector<at::Tensor> constants, readers, writers, gates;
  std::vector<double> biases;
  std::vector<int64_t> constant_of, reader_of;
  for (size_t k = 0; k < terms_.size(); ++k) {
    const auto& [reader, bias, gate, writer] = terms_[k];
    for (const double number : {bias, gate.constant, gate.linear, gate.rectified, gate.step}) {
      if (!std::isfinite(number)) fail("edit: term {} has a bias or gate of {}", k, number);
    }
    at::Tensor v = checked(writer, "writer", k, width_);  // [d] float64
    if (!gate.reads()) {
      constants.push_back(v * gate.constant);
      constant_of.push_back(static_cast<int64_t>(k));
      continue;
    }
    readers.push_back(checked(reader, "reader", k, width_));
    writers.push_back(std::move(v));
    biases.push_back(bias);
    gates.push_back(at::tensor({gate.constant, gate.linear, gate.rectified, gate.step}, at::kDouble));
    reader_of.push_back(static_cast<int64_t>(k));
    table_.uses.constant += gate.constant != 0;
    table_.uses.linear += gate.linear != 0;
    table_.uses.rectified += gate.rectified != 0;
    table_.uses.step += gate.step != 0;
  }
  const auto device = terms_.front().writer.device();
  constant_of_ = at::tensor(constant_of, at::kLong).to(device);
  reader_of_ = at::tensor(reader_of, at::kLong).to(device);
  if (!constants.empty()) {
    constants_ = stack_as_float(constants);
    table_.constant = at::stack(constants).sum(0).to(at::kFloat);
  }
  if (!readers.empty()) {
    table_.readers = stack_as_float(readers);
    table_.biases = at::tensor(biases, at::kDouble).to(device, at::kFloat);
    table_.gates = stack_as_float(gates).t().contiguous().to(device);
    table_.writers = stack_as_float(writers);
  }
  for (double* part : {&table_.uses.constant, &table_.uses.linear, &table_.uses.rectified, &table_.uses.step}) {
    *part = *part != 0;
  }
}

// bake.cpp writes the operators of the next two functions, one by one, as TorchScript: change them together.
at::Tensor Edit::gate(const at::Tensor& x) const {
  const at::Tensor z = at::linear(x.to(at::kFloat), on(table_.readers, x), on(table_.biases, x));  // [.., reading]
  const at::Tensor gates = on(table_.gates, x);                                                    // [4, reading]
  at::Tensor sum;                                                                                  // [.., reading]
  const auto plus = [&](const at::Tensor& part) { sum = sum.defined() ? sum + part : part; };
  if (table_.uses.linear != 0) plus(z * gates[1]);
  if (table_.uses.rectified != 0) plus(at::relu(z) * gates[2]);
  if (table_.uses.step != 0) plus(at::gt(z, 0).to(at::kFloat) * gates[3]);
  if (table_.uses.constant != 0) plus(gates[0]);
  return sum;
}

at::Tensor Edit::vector_at(const at::Tensor& x) const {
  if (!table_.readers.defined()) return on(table_.constant, x);             // [d]
  const at::Tensor read = at::matmul(gate(x), on(table_.writers, x));       // [.., d]
  return table_.constant.defined() ? read + on(table_.constant, x) : read;  // [.., d]
}

at::Tensor Edit::apply_scaled(const at::Tensor& x, double coefficient) const {
  if (x.dim() == 0 || x.size(-1) != width_) {
    fail("the activation is {}, expected {} values in its last dimension", fmt::streamed(x.sizes()), width_);
  }
  if (!x.is_floating_point()) {
    fail("the activation is of type {}, expected floating point", c10::toString(x.scalar_type()));
  }
  if (coefficient == 0) return x;
  return x + (vector_at(x) * coefficient).to(x.scalar_type());
}

at::Tensor Edit::apply(const at::Tensor& x, const at::Tensor& coefficients) const {
  if (!coefficients.defined()) return apply_scaled(x, 1);
  if (coefficients.dim() == 0 && !coefficients.requires_grad()) return apply_scaled(x, coefficients.item<double>());
  apply_scaled(x, 0);  // the checks
  const at::Tensor c = coefficients.to(x.device(), at::kFloat);
  if (c.dim() == 0) return x + (vector_at(x) * c).to(x.scalar_type());

  if (c.dim() > 2 || x.dim() < 2 || c.size(0) != x.size(0)) {
    fail(
        "the coefficients are {}, the activation is {}; expected a scalar, one a row [batch] or one a row "
        "and term [batch, terms]",
        fmt::streamed(c.sizes()), fmt::streamed(x.sizes()));
  }
  if (c.dim() == 1) return x + (vector_at(x) * by_row(c.unsqueeze(1), x)).to(x.scalar_type());

  if (c.size(1) != static_cast<int64_t>(terms_.size())) {
    fail("the coefficients are {}, expected [batch, {}], one for each term", fmt::streamed(c.sizes()), terms_.size());
  }
  at::Tensor v;  // [batch, .., d]
  if (constants_.defined()) v = by_row(at::matmul(c.index_select(1, on(constant_of_, x)), on(constants_, x)), x);
  if (table_.readers.defined()) {
    const at::Tensor gates = gate(x) * by_row(c.index_select(1, on(reader_of_, x)), x);  // [batch, .., reading]
    const at::Tensor read = at::matmul(gates, on(table_.writers, x));                    // [batch, .., d]
    v = v.defined() ? v + read : read;
  }
  return x + v.to(x.scalar_type());
}

at::Tensor implicit_vector(const Edit& edit, const at::Tensor& x, const at::Tensor& coefficients) {
  return edit.apply(x, coefficients) - x;
}

}  // namespace vyx
