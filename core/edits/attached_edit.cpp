#include "core/edits/attached_edit.h"

#include <ATen/ATen.h>
#include <fmt/ostream.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/hooks/activation.h"
#include "core/hooks/token_mask.h"

namespace vyx {
namespace {

/// `mask` [batch, seq] against x [batch, seq, .., d].
at::Tensor broadcast_mask(const at::Tensor& mask, const at::Tensor& x) {
  if (x.dim() < 3 || x.size(0) != mask.size(0) || x.size(1) != mask.size(1)) {
    fail(
        "the activation is {}, the token mask is {}; expected [batch, seq, .., d] to go with "
        "[batch, seq]",
        fmt::streamed(x.sizes()), fmt::streamed(mask.sizes()));
  }
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[0] = mask.size(0);
  shape[1] = mask.size(1);
  return mask.to(x.device()).view(shape);
}

using Edits = std::vector<std::shared_ptr<const Edit>>;  // side by side; null: none

Edits copies_of(std::span<const Edit* const> edits) {
  if (edits.empty()) fail("found no edit, expected at least one");
  Edits copies;
  for (const Edit* const edit : edits)
    copies.push_back(edit == nullptr ? nullptr : std::make_shared<const Edit>(*edit));
  return copies;
}

/// Runs `call`, with the site's name before what it throws.
template <class Call>
auto at_site(const Site& site, Call call) {
  try {
    return call();
  } catch (const Error& error) {
    fail("{}: {}", site.name(), error.what());
  }
}

}  // namespace

struct AttachedEdit::State {
  /// Coefficients with the scalar read out once: reading it at each call would synchronise a GPU.
  struct Coefficients {
    at::Tensor tensor;  // [batch] or [batch, terms], or a scalar that learns
    double scalar = 1;  // when there is no tensor

    Coefficients(at::Tensor given, const Edits& edits) {
      if (!given.defined()) return;
      if (edits.size() > 1 && given.dim() > 0)
        fail("the coefficients are {}, expected a scalar for {} edits side by side",
             fmt::streamed(given.sizes()), edits.size());
      const auto terms =
          static_cast<int64_t>(edits.front() ? edits.front()->terms().size() : size_t{0});
      if (given.dim() > 2 || (given.dim() == 2 && given.size(1) != terms)) {
        fail("the coefficients are {}, expected a scalar, [batch] or [batch, {}]",
             fmt::streamed(given.sizes()), terms);
      }
      if (!given.isfinite().all().item<bool>()) fail("the coefficients are not all finite");
      if (given.dim() == 0 && !given.requires_grad()) {
        scalar = given.item<double>();
      } else {
        tensor = std::move(given);
      }
    }

    at::Tensor apply(const Edit& edit, const at::Tensor& x) const {
      return tensor.defined() ? edit.apply(x, tensor) : edit.apply_scaled(x, scalar);
    }
  };

  State(Site at, Edits to_apply, AttachOptions options)
      : site(std::move(at)),
        positions(options.positions),
        edits_(std::move(to_apply)),
        coefficients_(
            at_site(site, [&] { return Coefficients(std::move(options.coefficients), edits_); })) {}

  void set_coefficients(at::Tensor given) {
    const std::lock_guard lock(mutex_);
    Coefficients next = at_site(site, [&] { return Coefficients(std::move(given), edits_); });
    coefficients_ = std::move(next);
  }

  std::optional<c10::IValue> operator()(const c10::IValue& value) {
    const EditableTokens tokens = editable_tokens(positions == Positions::generated);
    const auto x = activation_of(value);  // [batch, .., d]
    if (!tokens.any || !x) return std::nullopt;
    const at::Tensor y = at_site(site, [&] { return edited(*x, tokens); });
    ++firings;
    if (y.is_same(*x)) return std::nullopt;
    return with_activation(value, y);
  }

  const Site site;
  const Positions positions;
  std::atomic<uint64_t> firings = 0;

 private:
  at::Tensor edited(const at::Tensor& x, const EditableTokens& tokens) {
    const auto [edits, coefficients] = at_work(x.device());
    const at::Tensor y = edits.size() == 1 ? applied(edits.front(), coefficients, x)
                                           : in_runs(edits, coefficients, x);  // [batch, .., d]
    if (!tokens.mask.defined()) return y;
    const at::Tensor mask = broadcast_mask(tokens.mask, x);
    return y.is_same(x) ? x : at::where(mask, y, x);
  }

  static at::Tensor applied(const std::shared_ptr<const Edit>& edit,
                            const Coefficients& coefficients, const at::Tensor& x) {
    return edit ? coefficients.apply(*edit, x) : x;
  }

  static at::Tensor in_runs(const Edits& edits, const Coefficients& coefficients,
                            const at::Tensor& x) {
    const auto runs = static_cast<int64_t>(edits.size());
    if (x.dim() == 0 || x.size(0) == 0 || x.size(0) % runs != 0)
      fail("the activation is {}, expected rows in {} runs of one length, for as many edits",
           fmt::streamed(x.sizes()), runs);
    std::vector<at::Tensor> parts = x.chunk(runs);  // [batch / runs, .., d] each
    for (size_t i = 0; i < parts.size(); ++i) parts[i] = applied(edits[i], coefficients, parts[i]);
    return at::cat(parts);
  }

  /// What to apply now; the edits move to the activation's device once, and not at each call.
  std::pair<Edits, Coefficients> at_work(c10::Device device) {
    const std::lock_guard lock(mutex_);
    for (std::shared_ptr<const Edit>& edit : edits_)
      if (edit && edit->device() != device) edit = std::make_shared<const Edit>(edit->to(device));
    return {edits_, coefficients_};
  }

  std::mutex mutex_;
  Edits edits_;
  Coefficients coefficients_;
};

AttachedEdit AttachedEdit::hooked(HookedModule& module, std::shared_ptr<State> state) {
  AttachedEdit attached;
  attached.state_ = std::move(state);
  attached.handle_ = module.hook(
      std::span(&attached.state_->site, 1),
      [state = attached.state_](const Site&, const c10::IValue& value) { return (*state)(value); });
  return attached;
}

AttachedEdit attach(HookedModule& module, const Site& site, Edit edit, AttachOptions options) {
  return AttachedEdit::hooked(
      module, std::make_shared<AttachedEdit::State>(
                  site, Edits{std::make_shared<const Edit>(std::move(edit))}, std::move(options)));
}

AttachedEdit attach(HookedModule& module, const Site& site, std::span<const Edit* const> edits,
                    Positions positions) {
  return AttachedEdit::hooked(module,
                              std::make_shared<AttachedEdit::State>(
                                  site, at_site(site, [&] { return copies_of(edits); }),
                                  AttachOptions{.coefficients = {}, .positions = positions}));
}

uint64_t AttachedEdit::firings() const {
  return state_->firings;
}

void AttachedEdit::set_coefficients(at::Tensor coefficients) {
  state_->set_coefficients(std::move(coefficients));
}

void AttachedEdit::require_fired() const {
  if (firings() > 0) return;
  fail("{}: the edit never fired; no run called this site with a token to edit{}", site().name(),
       state_->positions == Positions::generated ? " (only generated tokens were to be edited)"
                                                 : "");
}

const Site& AttachedEdit::site() const {
  return state_->site;
}

void AttachedEdit::remove() {
  handle_.remove();
}

}  // namespace vyx
