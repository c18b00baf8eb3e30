// Chats as a model was trained on them. Templates are never evaluated (a template from a file is
// code): a model's template is compared, as a whole, with those whose text vyx can write, and any
// other is none that vyx knows.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vyx::models {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

/// How a model's chats are written.
struct ChatFormat {
  std::string name;  // "chatml", or "" for none that vyx knows
  /// What the template itself says as the system when a chat does not begin with a system message
  /// (SmolLM2: "You are a helpful AI assistant named SmolLM, trained by Hugging Face"); "" for
  /// nothing; nullopt: not known, in archives of an earlier vyx.
  std::optional<std::string> system = {};

  bool empty() const { return name.empty(); }
  friend bool operator==(const ChatFormat&, const ChatFormat&) = default;
};

/// A piece of a written chat. A marker is one control token; in what is no marker, the characters
/// of one are plain characters.
struct ChatPart {
  std::string text;
  bool marker = false;
};

/// A chat with the generation prompt, as the model's template writes it. ChatML
/// (https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md):
///
///     <|im_start|>system\n…<|im_end|>\n<|im_start|>user\n…<|im_end|>\n<|im_start|>assistant\n
///
/// Throws Error for a format that is none, or whose own system message is not known.
std::vector<ChatPart> chat_parts(const ChatFormat& format, std::span<const ChatMessage> messages);
/// The same as one text, in which markers are to be read as such. Throws Error as above, and for a
/// message with a marker in it, which would end its own turn.
std::string chat_text(const ChatFormat& format, std::span<const ChatMessage> messages);

/// The markers of a format, each a control token; the last one closes a turn. Empty for none.
std::span<const std::string_view> chat_markers(const ChatFormat& format);

/// The format that a model's Jinja template writes: ChatML in its usual spellings, with or without
/// a system message of the template's own; otherwise none.
ChatFormat detect_chat_format(std::string_view jinja_template);

}  // namespace vyx::models
