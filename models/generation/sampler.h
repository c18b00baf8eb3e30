// The choice of the next token.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace vyx::models {

/// Filters apply in this order: repetition penalty, temperature, top-k, top-p, min-p.
struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  int64_t top_k = 0;       // keep the k most probable; 0: all
  /// Keep the smallest set with this probability (nucleus; Holtzman et al. 2019, arXiv:1904.09751).
  double top_p = 1;
  /// Keep those with at least this share of the best one's probability (Nguyen et al. 2024,
  /// arXiv:2407.01082).
  double min_p = 0;
  /// Divides positive and multiplies negative logits of tokens that were seen (Keskar et al. 2019,
  /// arXiv:1909.05858).
  double repetition_penalty = 1;
  uint64_t seed = 0;
};
void validate(const SamplingOptions& options);  // throws UsageError

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);
  /// The next token, from float32 logits [vocabulary] and all tokens so far (prompt and generated).
  /// Ties go to the lower id. Throws Error when a logit is NaN or none is finite.
  TokenId sample(std::span<const float> logits, std::span<const TokenId> seen);

 private:
  std::span<const float> penalize(std::span<const float> logits, std::span<const TokenId> seen);
  void keep_top_k();
  void keep_top_p();

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<float> penalized_;                       // kept between calls for their memory
  std::vector<std::pair<float, TokenId>> candidates_;  // weights relative to the best token's
};

}  // namespace vyx::models
