#include "apps/inspect/inspect.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "core/base/error.h"
#include "core/io/files.h"

namespace vyx::apps {

Inspection inspect(const std::string& path, bool run) {
  if (std::filesystem::exists(std::filesystem::path(path) / "manifest.json"))
    return inspect_store(path);
  if (std::filesystem::is_directory(path) || path.ends_with(".npz"))
    return inspect_autoencoder(path);
  const MappedFile file(path);
  const auto bytes = file.bytes();
  const auto starts_with = [&](std::string_view magic) {
    return bytes.size() >= magic.size() &&
           std::equal(magic.begin(), magic.end(), reinterpret_cast<const char*>(bytes.data()));
  };
  if (starts_with("GGUF")) return inspect_gguf(path);
  if (starts_with("PK\x03\x04")) return inspect_archive(path, run);
  if (bytes.size() > 8 && bytes[8] == std::byte{'{'}) return inspect_safetensors(path);
  fail(
      "{}: neither GGUF nor safetensors nor a TorchScript archive (it begins with neither \"GGUF\" "
      "nor \"PK\")",
      path);
}

std::string first_words(const std::string& text) {
  const std::string line = text.substr(0, std::min(text.find('\n'), size_t{60}));
  return line.size() < text.size() ? line + "…" : line;
}

}  // namespace vyx::apps
