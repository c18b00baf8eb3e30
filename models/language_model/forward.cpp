#include "models/language_model/forward.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "core/base/error.h"

namespace vyx::models {

KvCache repeat_rows(const KvCache& cache, int64_t times, int64_t capacity) {
  if (capacity < cache.length)
    fail("a cache of {} tokens does not fit a capacity of {}", cache.length, capacity);
  const at::NoGradGuard no_grad;
  KvCache result = cache;
  result.batch = cache.batch * times;
  result.capacity = capacity;
  if (cache.real.defined()) result.real = cache.real.repeat_interleave(times, 0);
  // [batch, kv_heads, capacity, head_dim]
  const auto with_room = [&](const at::Tensor& held, bool has_keys) {
    at::Tensor repeated =
        at::empty({cache.batch, times, held.size(1), capacity, held.size(3)}, held.options());
    if (has_keys)
      repeated.narrow(3, 0, cache.length).copy_(held.narrow(2, 0, cache.length).unsqueeze(1));
    return repeated.flatten(0, 1);  // [batch · times, kv_heads, capacity, head_dim]
  };
  for (auto* blocks : {&result.keys, &result.values})
    for (size_t block = 0; block < blocks->size(); ++block) {
      at::Tensor& held = (*blocks)[block];
      held = with_room(held, /*has_keys=*/static_cast<int64_t>(block) >= cache.from_block);
    }
  return result;
}

}  // namespace vyx::models
