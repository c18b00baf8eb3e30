#include "core/edits/edit.h"

#include <ATen/ATen.h>
#include <fmt/ostream.h>

#include <utility>

#include "core/base/error.h"
#include "core/edits/edit_kernel.h"
#include "core/hooks/activation.h"
#include "core/hooks/script_error.h"

namespace vyx {
namespace {

/// Columns per batch row [batch, k] against x [batch, .., *]: [batch, 1, .., 1, k].
at::Tensor by_row(const at::Tensor& columns, const at::Tensor& x) {
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape.front() = columns.size(0);
  shape.back() = columns.size(1);
  return columns.reshape(shape);
}

/// c [batch, terms] as the kernel takes it.
TermCoefficients<at::Tensor> by_term(const EditTable& table, const at::Tensor& c,
                                     const at::Tensor& x) {
  TermCoefficients<at::Tensor> result;
  if (table.gates.defined()) result.reading = by_row(c.index_select(1, table.reading_terms), x);
  if (table.constants.defined()) {
    const at::Tensor chosen = c.index_select(1, table.constant_terms);  // [batch, constants]
    result.constant = by_row(at::matmul(chosen, table.constants), x);
  }
  return result;
}

}  // namespace

std::array<at::Tensor, 3> readout_at(Compute&, const Readout& readout, const at::Tensor& x) {
  try {
    torch::jit::Module module = readout.module;
    const c10::IValue found = module.forward({x});
    std::array<at::Tensor, 3> result;
    for (size_t i = 0; i < result.size(); ++i) {
      const c10::IValue& part = found.toTupleRef().elements()[i];
      if (part.isTensor()) result[i] = part.toTensor();
    }
    return result;
  } catch (const std::exception& error) {
    fail("the edit's readout: {}", reason_of(error));
  }
}

Edit::Edit(std::vector<Term> terms, std::optional<Readout> readout)
    : terms_(std::move(terms)),
      readout_(std::move(readout)),
      table_(edit_table(terms_, readout_)) {}

void Edit::check(const at::Tensor& x) const {
  if (x.dim() > kMostDimensions) {
    fail(
        "the activation is {}, expected at most {} dimensions: of more it is not known which one "
        "holds the features",
        fmt::streamed(x.sizes()), kMostDimensions);
  }
  if (x.dim() == 0 || x.size(-1) != width()) {
    fail("the activation is {}, expected {} values in its last dimension", fmt::streamed(x.sizes()),
         width());
  }
  if (!x.is_floating_point()) {
    fail("the activation is of type {}, expected floating point", c10::toString(x.scalar_type()));
  }
}

at::Tensor Edit::apply_scaled(const at::Tensor& x, double coefficient) const {
  check(x);
  if (x.device() != device()) return to(x.device()).apply_scaled(x, coefficient);
  Compute compute;
  return edited(compute, table_, readout_, table_.uses, x, coefficient);
}

at::Tensor Edit::apply(const at::Tensor& x, const at::Tensor& coefficients) const {
  if (!coefficients.defined()) return apply_scaled(x, 1);
  if (coefficients.dim() == 0 && !coefficients.requires_grad())
    return apply_scaled(x, coefficients.item<double>());
  check(x);
  if (x.device() != device()) return to(x.device()).apply(x, coefficients);
  const at::Tensor c = coefficients.to(x.device(), at::kFloat);
  if (c.dim() > 0 && (c.dim() > 2 || x.dim() < 2 || c.size(0) != x.size(0))) {
    fail(
        "the coefficients are {}, the activation is {}; expected a scalar, one per row [batch] or "
        "one per row and term [batch, terms]",
        fmt::streamed(c.sizes()), fmt::streamed(x.sizes()));
  }
  if (c.dim() == 2 && c.size(1) != static_cast<int64_t>(terms_.size())) {
    fail("the coefficients are {}, expected [batch, {}], one for each term",
         fmt::streamed(c.sizes()), terms_.size());
  }
  Compute compute;
  const Gate& parts = table_.uses;
  if (c.dim() == 2) return edited(compute, table_, readout_, parts, x, 1.0, by_term(table_, c, x));
  return edited(compute, table_, readout_, parts, x, c.dim() == 0 ? c : by_row(c.unsqueeze(1), x));
}

Edit Edit::to(c10::Device device) const {
  Edit moved = *this;
  const auto move = [&](at::Tensor& tensor) {
    if (tensor.defined()) tensor = tensor.to(device);
  };
  for (Term& term : moved.terms_) {
    move(term.reader);
    move(term.writer);
    if (term.condition) move(term.condition->reader);
  }
  if (moved.readout_) {
    moved.readout_->module = moved.readout_->module.deepcopy();
    moved.readout_->module.to(device);
  }
  moved.table_ = table_.to(device);
  return moved;
}

at::Tensor implicit_vector(const Edit& edit, const at::Tensor& x, const at::Tensor& coefficients) {
  return edit.apply(x, coefficients) - x;
}

}  // namespace vyx
