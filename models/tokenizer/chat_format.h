// Chats as a model was trained on them. Templates are never evaluated (a template from a file is
// code): the formats that vyx knows are written out here, and an unknown one is an error that says
// so.
#pragma once
#include <span>
#include <string>
#include <string_view>

namespace vyx::models {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

/// ChatML (https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md), with the
/// generation prompt:
///
///     <|im_start|>user\n…<|im_end|>\n<|im_start|>assistant\n
///
/// No system message is added. Some templates write one of their own when the first message is not
/// the system's (SmolLM2: "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
/// to have it, give it as the first message.
std::string chatml(std::span<const ChatMessage> messages);

/// The name of the format that a model's Jinja template writes: "chatml", or "" for a format that
/// vyx does not know.
std::string detect_chat_format(std::string_view jinja_template);

}  // namespace vyx::models
