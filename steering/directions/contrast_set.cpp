#include "steering/directions/contrast_set.h"

#include <fmt/format.h>
#include <fmt/std.h>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/io/digest.h"
#include "core/io/files.h"
#include "core/io/line_reader.h"
#include "core/io/records.h"
#include "core/io/text_kind.h"
#include "models/tokenizer/chat_format.h"

namespace vyx::steering {
namespace {

constexpr std::string_view kPersona = "{persona}";

void require_two_sides(std::string_view positive, std::string_view negative,
                       std::string_view where) {
  for (const auto& [side, name] :
       {std::pair{positive, "positive"}, std::pair{negative, "negative"}}) {
    if (side.empty()) fail("{}: \"{}\" is empty; a pair needs both sides", where, name);
  }
  if (positive == negative) {
    fail("{}: \"positive\" and \"negative\" are equal; a pair's sides must differ in the concept",
         where);
  }
}

std::string digest_of(const std::vector<ContrastPair>& pairs) {
  std::string lines;
  for (const auto& [positive, negative] : pairs) lines += Json{positive, negative}.dump() + '\n';
  return sha256(lines);
}

std::vector<std::string> personas(const Json& json, const char* side, std::string_view where) {
  const auto found = json.find(side);
  if (found == json.end() || !found->is_array() || found->empty()) {
    fail("{}: \"{}\" is not a list of personas; expected [\"…\", …] with at least one", where,
         side);
  }
  std::vector<std::string> result;
  for (const Json& persona : *found) {
    if (!persona.is_string()) {
      fail("{}: \"{}\" holds a {}, expected only strings", where, side, persona.type_name());
    }
    result.push_back(persona.get<std::string>());
  }
  return result;
}

std::string with_persona(std::string prompt, std::string_view persona) {
  for (size_t at = 0; (at = prompt.find(kPersona, at)) != std::string::npos; at += persona.size()) {
    prompt.replace(at, kPersona.size(), persona);
  }
  return prompt;
}

/// What stands before the beginning of the model's own words.
std::string opening(const std::string& prompt, const models::ChatFormat& chat_format,
                    std::string_view where) {
  if (chat_format.empty()) return prompt + "\n\n";
  try {
    return models::chat_text(chat_format, std::vector<models::ChatMessage>{{"user", prompt}});
  } catch (const Error& error) {
    fail("{}: {}", where, error.what());
  }
}

}  // namespace

ContrastSet read_contrast_set(const std::filesystem::path& path) {
  ContrastSet set{.source = path.string()};
  for_each_record(path, {"positive", "negative"}, [&](const Json& json, const std::string& where) {
    ContrastPair pair{json_string(json, "positive", where), json_string(json, "negative", where)};
    require_two_sides(pair.positive, pair.negative, where);
    set.groups.push_back(set.pairs.size());
    set.places.push_back(where);
    set.pairs.push_back(std::move(pair));
  });
  if (set.pairs.empty()) {
    fail(
        "{}: holds no pair; expected one line {{\"positive\": \"…\", \"negative\": \"…\"}} per "
        "pair",
        path.string());
  }
  set.sha256 = digest_of(set.pairs);
  return set;
}

ContrastSet read_contrast_template(const std::filesystem::path& path,
                                   const models::ChatFormat& chat_format) {
  const std::string where = path.string();
  const std::string text = read_text_file(path);
  require_text(text, path);
  const Json json = parse_json(text, where);
  const std::string prompt = json_string(json, "prompt", where);
  if (prompt.find(kPersona) == std::string::npos) {
    fail("{}: \"prompt\" has no {} to put the personas in", where, kPersona);
  }
  const std::vector<std::string> positive = personas(json, "positive", where);
  const std::vector<std::string> negative = personas(json, "negative", where);
  if (positive.size() != negative.size()) {
    fail(
        "{}: {} positive and {} negative personas; the i-th ones are a pair, so give as many of "
        "both",
        where, positive.size(), negative.size());
  }
  std::vector<std::string> beginnings;
  const std::filesystem::path beginnings_path =
      path.parent_path() / json_string(json, "beginnings", where);
  for_each_line(beginnings_path,
                [&](std::string_view line, const std::string&) { beginnings.emplace_back(line); });
  if (beginnings.empty())
    fail("{}: holds no sentence beginning; expected one per line", beginnings_path.string());

  ContrastSet set{.source = where, .instruction = with_persona(prompt, positive.front())};
  for (size_t i = 0; i < positive.size(); ++i) {
    require_two_sides(positive[i], negative[i], fmt::format("{}: persona {}", where, i + 1));
    set.persona_pairs.push_back({positive[i], negative[i]});
    const std::string positive_opening =
        opening(with_persona(prompt, positive[i]), chat_format, where);
    const std::string negative_opening =
        opening(with_persona(prompt, negative[i]), chat_format, where);
    for (size_t j = 0; j < beginnings.size(); ++j) {
      set.pairs.push_back({positive_opening + beginnings[j], negative_opening + beginnings[j]});
      set.groups.push_back(j);
      set.places.push_back(fmt::format("{}: persona {} with beginning {}", where, i + 1, j + 1));
      set.personas.push_back(i);
    }
  }
  set.sha256 = digest_of(set.pairs);
  return set;
}

std::vector<ContinuationPair> read_continuation_pairs(const std::filesystem::path& path) {
  std::vector<ContinuationPair> pairs;
  for_each_record(
      path, {"prompt", "positive", "negative"}, [&](const Json& json, const std::string& where) {
        ContinuationPair pair{json_string(json, "prompt", where),
                              json_string(json, "positive", where),
                              json_string(json, "negative", where), where};
        if (pair.prompt.empty())
          fail("{}: \"prompt\" is empty; continuations need something to continue", where);
        require_two_sides(pair.positive, pair.negative, where);
        pairs.push_back(std::move(pair));
      });
  if (pairs.empty()) {
    fail(
        "{}: holds no pair; expected one line {{\"prompt\": \"…\", \"positive\": \"…\", "
        "\"negative\": \"…\"}} per pair",
        path.string());
  }
  return pairs;
}

}  // namespace vyx::steering
