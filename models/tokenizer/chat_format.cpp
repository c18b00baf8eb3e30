#include "models/tokenizer/chat_format.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "core/base/error.h"
#include "core/base/text.h"
#include "models/tokenizer/chat_template.h"

namespace vyx::models {
namespace {

constexpr const char *kStart = "<|im_start|>", *kEnd = "<|im_end|>";
constexpr std::array<std::string_view, 2> kChatmlMarkers = {kStart, kEnd};

/// Compares a template's parts with those that are expected, from the front on.
class PartCursor {
 public:
  explicit PartCursor(std::span<const TemplatePart> parts) : rest_(parts) {}

  bool at_end() const { return rest_.empty(); }

  /// Passes `expected`, if all of it is next.
  bool take(std::initializer_list<TemplatePart> expected) {
    if (rest_.size() < expected.size() ||
        !std::equal(expected.begin(), expected.end(), rest_.begin()))
      return false;
    rest_ = rest_.subspan(expected.size());
    return true;
  }

  /// Passes a system message that is written under `condition`, and returns what it says.
  std::optional<std::string> take_system(const std::string& condition) {
    const std::string before = std::string(kStart) + "system\n", after = std::string(kEnd) + "\n";
    if (rest_.size() < 3) return std::nullopt;
    const auto& [kind, text] = rest_[1];
    if (rest_[0] != statement("if " + condition) || kind != TemplatePart::Kind::text ||
        rest_[2] != statement("endif") || text.size() <= before.size() + after.size() ||
        !text.starts_with(before) || !text.ends_with(after))
      return std::nullopt;
    std::string system = text.substr(before.size(), text.size() - before.size() - after.size());
    for (const std::string_view marker : kChatmlMarkers)
      if (system.find(marker) != std::string::npos) return std::nullopt;
    rest_ = rest_.subspan(3);
    return system;
  }

  static TemplatePart statement(std::string spelling) {
    return {TemplatePart::Kind::statement, std::move(spelling)};
  }
  static TemplatePart text(std::string spelling) {
    return {TemplatePart::Kind::text, std::move(spelling)};
  }
  static TemplatePart value(std::string spelling) {
    return {TemplatePart::Kind::value, std::move(spelling)};
  }

 private:
  std::span<const TemplatePart> rest_;
};

}  // namespace

std::vector<ChatPart> chat_parts(const ChatFormat& format, std::span<const ChatMessage> messages) {
  if (format.name != "chatml")
    fail("found no chat format that vyx knows, expected chatml; give a plain prompt");
  if (!format.system)
    fail(
        "found an archive that does not say what its chat template writes, made by an earlier vyx; "
        "import the model again");
  std::vector<ChatPart> parts;
  const auto turn = [&](const std::string& role, const std::string& content) {
    parts.push_back({kStart, true});
    parts.push_back({role + "\n" + content});
    parts.push_back({kEnd, true});
    parts.push_back({"\n"});
  };
  if (!format.system->empty() && (messages.empty() || messages[0].role != "system"))
    turn("system", *format.system);
  for (const auto& [role, content] : messages) turn(role, content);
  parts.push_back({kStart, true});
  parts.push_back({"assistant\n"});
  return parts;
}

std::string chat_text(const ChatFormat& format, std::span<const ChatMessage> messages) {
  std::string all;
  for (const auto& [text, is_marker] : chat_parts(format, messages)) {
    for (const std::string_view marker : chat_markers(format)) {
      if (!is_marker && text.find(marker) != std::string::npos)
        fail("a message of a chat holds {}, which would end its turn; expected plain text",
             quote(marker));
    }
    all += text;
  }
  return all;
}

std::span<const std::string_view> chat_markers(const ChatFormat& format) {
  if (format.name == "chatml") return kChatmlMarkers;
  return {};
}

ChatFormat detect_chat_format(std::string_view jinja_template) {
  using Cursor = PartCursor;
  const auto parts = template_parts(jinja_template);
  if (!parts) return {};
  const std::string no_system = R"(messages [ 0 ] [ "role" ] != "system")";
  Cursor cursor(*parts);
  cursor.take({Cursor::statement("if not add_generation_prompt is defined"),
               Cursor::statement("set add_generation_prompt = false"), Cursor::statement("endif")});
  std::optional<std::string> system = cursor.take_system(no_system);
  if (!cursor.take({Cursor::statement("for message in messages")})) return {};
  for (const std::string& condition :
       {"loop [ \"first\" ] and " + no_system, no_system + " and loop [ \"first\" ]"}) {
    if (!system) system = cursor.take_system(condition);
  }
  if (!cursor.take({Cursor::text(kStart), Cursor::value("message [ \"role\" ]"), Cursor::text("\n"),
                    Cursor::value("message [ \"content\" ]"),
                    Cursor::text(std::string(kEnd) + "\n"), Cursor::statement("endfor")}))
    return {};
  const TemplatePart reply = Cursor::text(std::string(kStart) + "assistant\n");
  if (!cursor.take(
          {Cursor::statement("if add_generation_prompt"), reply, Cursor::statement("endif")}) &&
      !cursor.take({reply}))
    return {};
  if (!cursor.at_end()) return {};
  return {.name = "chatml", .system = system.value_or("")};
}

}  // namespace vyx::models
