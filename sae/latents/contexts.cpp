#include "sae/latents/contexts.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <utility>

namespace vyx::sae {
namespace {

/// The last `window` tokens up to the place.
std::span<const models::TokenId> before(const models::TokenPlace& place,
                                        std::span<const std::vector<models::TokenId>> rows,
                                        int64_t window) {
  const int64_t end = place.position + 1, count = std::min(window, end);
  return std::span(rows[place.row])
      .subspan(static_cast<size_t>(end - count), static_cast<size_t>(count));
}

}  // namespace

TopContexts::TopContexts(std::vector<int64_t> latents, size_t keep, int64_t window)
    : latents_(std::move(latents)), keep_(keep), window_(window), contexts_(latents_.size()) {}

void TopContexts::add(const at::Tensor& f, std::span<const models::TokenPlace> places,
                      std::span<const std::vector<models::TokenId>> rows) {
  const at::Tensor chosen = f.index_select(1, at::tensor(latents_, at::kLong))
                                .t()
                                .contiguous();  // [chosen latents, tokens]
  const auto* values = chosen.const_data_ptr<float>();
  for (size_t i = 0; i < latents_.size(); ++i) {
    std::vector<Context>& kept = contexts_[i];
    for (size_t t = 0; t < places.size(); ++t) {
      const Context context{values[i * places.size() + t], places[t]};
      if (context.activation <= 0 ||
          (kept.size() == keep_ && context.activation <= kept.back().activation))
        continue;
      const auto same = [&](const Context& other) {
        return std::ranges::equal(before(context.place, rows, window_),
                                  before(other.place, rows, window_));
      };
      if (const auto known = std::ranges::find_if(kept, same); known != kept.end()) {
        if (known->activation >= context.activation) continue;
        kept.erase(known);
      } else if (kept.size() == keep_) {
        kept.pop_back();
      }
      const auto after = [&](const Context& other) {
        return other.activation < context.activation;
      };
      kept.insert(std::ranges::find_if(kept, after), context);
    }
  }
}

}  // namespace vyx::sae
