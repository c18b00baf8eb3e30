#include "models/activations/text_rows.h"

#include <fmt/format.h>

#include "core/base/error.h"
#include "models/activations/packing.h"
#include "models/language_model/encode.h"

namespace vyx::models {

std::vector<std::vector<TokenId>> read_text_rows(const LanguageModel& model,
                                                 const std::vector<std::string>& files,
                                                 const TextRowsOptions& options) {
  const auto& config = model.config();
  if (options.context > config.context_length)
    throw UsageError(fmt::format("{}: found a context of {} tokens, expected at most {}",
                                 config.provenance.name, options.context, config.context_length));
  Packer packer(TextSource({files.begin(), files.end()}), model.tokenizer(),
                {.context = options.context,
                 .begin_token = begin_token(model),
                 .pad_token = model.pad_token()});
  auto rows = segments_of(packer, options.max_tokens == 0 ? UINT64_MAX : options.max_tokens);
  if (rows.empty()) fail("{}: found no text, expected some", files.front());
  return rows;
}

}  // namespace vyx::models
