#include "models/tokenizer/chat_format.h"

#include <algorithm>
#include <array>

namespace vyx::models {

std::string chatml(std::span<const ChatMessage> messages) {
  std::string text;
  for (const ChatMessage& message : messages) {
    text += "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n";
  }
  return text += "<|im_start|>assistant\n";
}

std::string detect_chat_format(std::string_view jinja_template) {
  const auto has = [&](std::string_view marker) {
    return jinja_template.find(marker) != std::string_view::npos;
  };
  // Other formats borrow ChatML's markers and add their own: Phi-4 <|im_sep|>, Kimi <|im_middle|>.
  // Templates with a second family's markers are not plain ChatML either.
  static constexpr std::array<std::string_view, 6> kForeign = {
      "<|im_sep|>",      "<|im_middle|>", "<|start_header_id|>",
      "<start_of_turn>", "[INST]",        "<|channel|>"};
  const bool plain = std::none_of(kForeign.begin(), kForeign.end(), has);
  return plain && has("<|im_start|>") && has("<|im_end|>") && has("assistant") ? "chatml" : "";
}

}  // namespace vyx::models
