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
  const auto with_room = [&](const at::Tensor& held) {  // [batch, kv_heads, capacity, head_dim]
    at::Tensor repeated =
        at::empty({cache.batch, times, held.size(1), capacity, held.size(3)}, held.options());
    repeated.narrow(3, 0, cache.length).copy_(held.narrow(2, 0, cache.length).unsqueeze(1));
    return repeated.flatten(0, 1);  // [batch · times, kv_heads, capacity, head_dim]
  };
  for (at::Tensor& keys : result.keys) keys = with_room(keys);
  for (at::Tensor& values : result.values) values = with_room(values);
  return result;
}

}  // namespace vyx::models
