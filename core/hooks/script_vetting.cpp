#include "core/hooks/script_vetting.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/formats/script_pickle.h"
#include "core/hooks/script_code.h"
#include "core/hooks/script_operators.h"
#include "core/hooks/script_records.h"

namespace vyx {
namespace {

using Kind = ScriptToken::Kind;

constexpr size_t kMaxDepth = 300;  // of classes within classes, as LibTorch imports them
constexpr std::string_view kTrust = "if you know who made the file, --trust loads it";

// The names of a file of code, one after the other.
class CodeVetter {
 public:
  CodeVetter(std::string_view code, const std::string& place)
      : place_(place), tokens_(script_tokens(code, place)) {}

  void vet() const {
    for (size_t i = 0; i < tokens_.size(); ++i)
      if (tokens_[i].kind == Kind::name) vet_name(i);
  }

  /// For each class and function at the top: which others it names.
  void add_references(const std::string& unit,
                      std::map<std::string, std::set<std::string>>& uses) const {
    std::string owner;
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (tokens_[i].outer && (is(i, "class") || is(i, "def")) && i + 1 < tokens_.size())
        owner = unit + "." + std::string(tokens_[i + 1].text);
      const bool begins = is_name(i) && is(i + 1, ".") && !(i > 0 && is(i - 1, "."));
      if (!begins || owner.empty()) continue;
      std::string path(tokens_[i].text);
      for (; is(i + 1, ".") && i + 2 < tokens_.size(); i += 2)
        path.append(".").append(tokens_[i + 2].text);
      uses[owner].insert(path);
    }
  }

 private:
  bool is(size_t i, std::string_view text) const {
    return i < tokens_.size() && tokens_[i].text == text && tokens_[i].kind != Kind::text;
  }
  bool is_name(size_t i) const { return i < tokens_.size() && tokens_[i].kind == Kind::name; }

  [[noreturn]] void refuse(size_t i, const std::string& found) const {
    fail("{}:{}: found {}, which vyx does not know to be harmless; {}", place_, tokens_[i].line,
         found, kTrust);
  }

  void vet_operator(size_t i, std::string_view space, std::string_view name) const {
    if (!is_harmless_operator(space, name))
      refuse(i, fmt::format("the operator {}", quote(fmt::format("{}::{}", space, name))));
  }

  void vet_name(size_t i) const {
    const std::string_view name = tokens_[i].text;
    if (i > 0 && is(i - 1, ".")) {
      if (name == "classes" && i > 1 && is(i - 2, "torch"))
        refuse(i, "a class that is not its own");
      if (!is_harmless_member(name)) refuse(i, fmt::format("the operator {}", quote(name)));
    } else if (name == "torch" || name == "ops") {
      const bool declared = is(i + 1, ":") || (is(i + 1, "=") && !is(i + 2, "="));
      const size_t last = name == "torch" ? i + 2 : i + 4;
      const bool whole = is(i + 1, ".") && is_name(i + 2) &&
                         (name == "torch" || (is(i + 3, ".") && is_name(i + 4)));
      // By another name it could reach an operator unseen.
      if (!whole && !declared) refuse(i, fmt::format("{} as a value", quote(name)));
      if (whole)
        vet_operator(i, name == "torch" ? "aten" : tokens_[i + 2].text, tokens_[last].text);
    } else if (name == "getattr") {
      vet_getattr(i);
    } else if (name.starts_with("rpc_")) {
      refuse(i, fmt::format("the operator {}", quote(name)));
    }
  }

  // getattr(x, "name") is x.name.
  void vet_getattr(size_t i) const {
    size_t depth = 0;
    for (size_t at = i + 1; at < tokens_.size(); ++at) {
      const ScriptToken& token = tokens_[at];
      if (is(at, "(")) ++depth;
      if (is(at, ")") && --depth == 0) return;
      if (depth == 0) refuse(i, "getattr as a value");
      if (token.kind != Kind::text) continue;
      const bool plain =
          token.text.find('\\') == std::string_view::npos && tokens_[at + 1].kind != Kind::text;
      if (!plain || !is_harmless_member(token.text))
        refuse(i, fmt::format("the operator {}", quote(token.text)));
    }
  }

  const std::string& place_;
  std::vector<ScriptToken> tokens_;
};

// The longest way from one class to another that it names, to another that this one names. LibTorch
// imports each within the import of the one before.
size_t depth_of(const std::map<std::string, std::set<std::string>>& uses) {
  // The class or function that a path names, or is a member of.
  const auto owner_of = [&](std::string path) {
    while (uses.find(path) == uses.end()) {
      const size_t dot = path.rfind('.');
      if (dot == std::string::npos) return uses.end();
      path.resize(dot);
    }
    return uses.find(path);
  };
  struct Step {
    decltype(uses.begin()) unit;
    std::set<std::string>::const_iterator next;
  };
  std::map<std::string, size_t> depths;  // 0 while it is looked at
  std::vector<Step> way;
  size_t longest = 0;
  for (auto root = uses.begin(); root != uses.end(); ++root) {
    if (depths.contains(root->first)) continue;
    way.push_back({root, root->second.begin()});
    depths[root->first] = 0;
    std::vector<size_t> below = {0};
    while (!way.empty()) {
      Step& step = way.back();
      if (step.next == step.unit->second.end()) {
        const size_t depth = below.back() + 1;
        depths[step.unit->first] = depth;
        longest = std::max(longest, depth);
        way.pop_back();
        below.pop_back();
        if (!below.empty()) below.back() = std::max(below.back(), depth);
        continue;
      }
      const auto used = owner_of(*step.next++);
      if (used == uses.end()) continue;
      if (const auto known = depths.find(used->first); known != depths.end()) {
        below.back() = std::max(below.back(), known->second);
      } else {
        depths[used->first] = 0;
        way.push_back({used, used->second.begin()});
        below.push_back(0);
      }
    }
  }
  return longest;
}

void vet_code(const ScriptRecords& records) {
  std::map<std::string, std::set<std::string>> uses;
  for (const ScriptCode& code : read_code(records)) {
    const CodeVetter vetter(code.text, code.place);
    vetter.vet();
    vetter.add_references(code.unit, uses);
  }
  if (const size_t depth = depth_of(uses); depth > kMaxDepth)
    fail("{}: found classes within classes, {} deep, expected at most {}", records.zip.source(),
         depth, kMaxDepth);
}

}  // namespace

void vet_script(std::span<const std::byte> archive, const std::string& source) {
  const ScriptRecords records = script_records(archive, source);
  vet_code(records);
  for (const char* part : {"constants", "data"})
    check_script_pickle(records.zip, records.folder, part);
  for (const ZipEntry& entry : records.zip.entries())
    if (entry.name.ends_with(".debug_pkl"))
      check_debug_pickle(records.zip, records.folder, entry.name.substr(records.folder.size()));
}

}  // namespace vyx
