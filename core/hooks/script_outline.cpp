#include "core/hooks/script_outline.h"

#include <set>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/formats/script_pickle.h"
#include "core/hooks/script_code.h"
#include "core/hooks/script_records.h"
#include "core/hooks/site_pattern.h"
#include "core/hooks/taps.h"
#include "core/io/files.h"

namespace vyx {
namespace {

constexpr size_t kMaxPaths = 1'000'000;  // objects that several paths reach count each time

struct ScriptClass {
  bool is_module = false, has_forward = false;
  std::set<std::string, std::less<>> parameters;
};
using Classes = std::map<std::string, ScriptClass>;

// class Net(Module):
//   __parameters__ = ["weight", ]
//   def forward(self: …
void read_classes(const std::vector<ScriptToken>& tokens, const std::string& unit,
                  Classes& classes) {
  using Kind = ScriptToken::Kind;
  const auto is = [&](size_t i, std::string_view text) {
    return i < tokens.size() && tokens[i].kind != Kind::text && tokens[i].text == text;
  };
  ScriptClass* current = nullptr;
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    if (tokens[i].outer) {
      current = is(i, "class") ? &classes[unit + "." + std::string(tokens[i + 1].text)] : nullptr;
      if (current != nullptr) current->is_module = is(i + 2, "(") && is(i + 3, "Module");
    }
    if (current == nullptr) continue;
    if (is(i, "def") && is_forward(tokens[i + 1].text)) current->has_forward = true;
    if (!is(i, "__parameters__") || !is(i + 1, "=")) continue;
    for (size_t at = i + 2; at < tokens.size() && !is(at, "]"); ++at)
      if (tokens[at].kind == Kind::text) current->parameters.emplace(tokens[at].text);
  }
}

class Outliner {
 public:
  Outliner(const std::vector<ScriptObject>& objects, const Classes& classes, std::string source)
      : objects_(objects), classes_(classes), source_(std::move(source)) {}

  ScriptOutline read() {
    add(0, "");
    return std::move(outline_);
  }

 private:
  // The pickle's check has bounded how deep objects nest.
  void add(size_t index, const std::string& path) {
    if (++paths_ > kMaxPaths)
      fail("{}: found more than {} paths to modules, expected at most that", source_, kMaxPaths);
    const ScriptObject& object = objects_[index];
    const auto found = classes_.find(object.type);
    if (found == classes_.end() || !found->second.is_module) return;
    const ScriptClass& type = found->second;
    if (type.has_forward)
      for (const Port port : {Port::input, Port::output})
        outline_.sites.push_back(Site{path, port}.name());
    if (object.opaque) outline_.opaque.push_back(path);
    const auto name_of = [&](const std::string& name) {
      return path.empty() ? name : path + "." + name;
    };
    size_t tensor = 0;
    const auto add_tensors = [&](size_t end) {
      for (; tensor < end; ++tensor) {
        const auto& [name, dtype, shape] = object.tensors[tensor];
        if (type.parameters.contains(name))
          outline_.parameters.push_back({name_of(name), dtype, shape});
      }
    };
    for (const ScriptObject::Member& member : object.members) {
      add_tensors(member.before);
      add(member.object, name_of(member.name));
    }
    add_tensors(object.tensors.size());
  }

  const std::vector<ScriptObject>& objects_;
  const Classes& classes_;
  std::string source_;
  size_t paths_ = 0;
  ScriptOutline outline_;
};

}  // namespace

ScriptOutline outline_script(const std::filesystem::path& path,
                             const std::vector<std::string>& extra_files) {
  const MappedFile file(path);
  const ScriptRecords records = script_records(file.bytes(), path.string());
  Classes classes;
  for (const ScriptCode& code : read_code(records))
    read_classes(script_tokens(code.text, code.place), code.unit, classes);
  const auto objects = read_script_objects(records.zip, records.folder);
  ScriptOutline outline = Outliner(objects, classes, path.string()).read();
  for (const std::string& name : extra_files)
    if (const ZipEntry* entry = records.zip.find(records.folder + "extra/" + name)) {
      const ZipContent content = records.zip.read(*entry);
      outline.extra_files[name].assign(reinterpret_cast<const char*>(content.bytes.data()),
                                       content.bytes.size());
    }
  return outline;
}

}  // namespace vyx
