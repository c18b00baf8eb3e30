// Products of an autoencoder's encoder with rounded factors: x and W_enc in bfloat16, sums in
// float32, by AVX-512's own instruction (twice to three times as fast as float32).
#pragma once
#include <cstdint>

namespace vyx::sae::bfloat16 {

/// Whether this machine multiplies bfloat16.
bool available();

constexpr int64_t kPanel = 48;  // latents that are multiplied together
constexpr int64_t kRows = 8;    // tokens that are

/// Numbers of uint16 that packed rows take; rows and d are padded with zeros.
int64_t packed_latents_size(int64_t latents, int64_t d);
int64_t packed_tokens_size(int64_t tokens, int64_t d);

/// What rounding did to a row: norms of the row, of the rounded row, and of their difference.
struct RowNorms {
  float exact, rounded, lost;
};

/// Packs W_enc [latents, d] in panels: [latents / 48][d / 2][48][2]. norms [latents]. `panel` alone
/// is packed: latents 48·panel ….
void pack_panel(uint16_t* packed, RowNorms* norms, const float* encoder, int64_t latents, int64_t d,
                int64_t panel);

/// Packs x [tokens, d] by rows of padded d. norms [tokens].
void pack_tokens(uint16_t* packed, RowNorms* norms, const float* x, int64_t tokens, int64_t d);

/// z [kRows·⌈tokens / kRows⌉, stride] = x·W_encᵀ of the packed panels first … first + panels − 1.
void multiply(float* z, int64_t stride, const uint16_t* packed_tokens, int64_t tokens,
              const uint16_t* packed_latents, int64_t first, int64_t panels, int64_t d);

}  // namespace vyx::sae::bfloat16
