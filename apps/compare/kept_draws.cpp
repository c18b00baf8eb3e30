#include "apps/compare/kept_draws.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/io/files.h"

namespace vyx::compare {
namespace {

const Json& member(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) fail("found no \"{}\"", key);
  return object[key];
}

}  // namespace

KeptDraws::KeptDraws(std::filesystem::path path, std::string digest,
                     const std::function<void(const std::string&)>& on_message)
    : path_(std::move(path)), digest_(std::move(digest)) {
  if (!std::filesystem::exists(path_)) return;
  std::string why;
  try {
    read(read_text_file(path_));
  } catch (const Error& error) {
    draws_.clear();
    why = error.what();
  }
  if (!on_message) return;
  on_message(why.empty() ? fmt::format("{}: goes on from {} draws", path_.string(), draws_.size())
                         : fmt::format("{}: its draws are not used, and drawn anew: {}",
                                       path_.string(), why));
}

void KeptDraws::read(const std::string& text) {
  const std::string source = path_.filename().string();
  const Json json = parse_json(text, source);
  if (json_string(json, "digest", source) != digest_) fail("they are of other inputs or options");
  for (const Json& row : member(json, "draws")) {
    Draw draw{.arrivals = {},
              .tokens = static_cast<uint64_t>(json_integer(row, "tokens", source, 0, INT64_MAX))};
    for (const auto& [method, effect] : member(row, "effects").items()) {
      if (!effect.is_number()) fail("found an effect that is no number");
      draw.arrivals.push_back({method, effect.get<double>()});
    }
    const auto number = static_cast<uint64_t>(json_integer(row, "draw", source, 0, INT64_MAX));
    draws_[{json_string(row, "null", source), number}] = std::move(draw);
  }
}

const Draw* KeptDraws::find(std::string_view null, uint64_t draw) const {
  const auto found = draws_.find({std::string(null), draw});
  return found == draws_.end() ? nullptr : &found->second;
}

void KeptDraws::add(std::string_view null, uint64_t draw, Draw result) {
  draws_[{std::string(null), draw}] = std::move(result);
  if (path_.empty()) return;
  Json rows = Json::array();
  for (const auto& [key, kept] : draws_) {
    Json effects = Json::object();
    for (const Arrival& arrival : kept.arrivals) effects[arrival.method] = arrival.effect;
    rows.push_back({{"null", key.first},
                    {"draw", key.second},
                    {"tokens", kept.tokens},
                    {"effects", std::move(effects)}});
  }
  write_file(path_, Json{{"digest", digest_}, {"draws", std::move(rows)}}.dump() + "\n");
}

}  // namespace vyx::compare
