#include "sae/files/autoencoder_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/base/error.h"
#include "sae/files/dictionary_learning.h"
#include "sae/files/gemma_scope.h"
#include "sae/files/openai.h"
#include "sae/files/saelens.h"
#include "sae/files/sparsify.h"

namespace vyx::sae {
namespace {

// `file` is where a folder of this format has its weights; OpenAI's files have no name of their
// own.
struct Format {
  FileFormat format;
  std::string_view name, file;
};
constexpr std::array<Format, 6> kFormats{
    {{FileFormat::saelens, "saelens", "sae_weights.safetensors"},
     {FileFormat::sparsify, "sparsify", "sae.safetensors"},
     {FileFormat::dictionary_learning, "dictionary-learning", "ae.pt"},
     {FileFormat::openai, "openai", ""},
     {FileFormat::gemma_scope, "gemma-scope", "params.npz"},
     {FileFormat::gemma_scope_2, "gemma-scope-2", "params.safetensors"}}};

}  // namespace

std::string_view name_of(FileFormat format) {
  return std::find_if(kFormats.begin(), kFormats.end(),
                      [&](const Format& each) { return each.format == format; })
      ->name;
}

FileFormat file_format_from_name(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Format& each : kFormats) {
    if (each.name == name) return each.format;
    names.push_back(each.name);
  }
  throw UsageError(
      fmt::format("found format '{}', expected one of {}", name, fmt::join(names, ", ")));
}

FileFormat recognise_format(const std::filesystem::path& path) {
  std::vector<std::string_view> files;
  for (const Format& each : kFormats) {
    if (each.file.empty()) continue;
    if (path.filename() == each.file || std::filesystem::exists(path / each.file))
      return each.format;
    files.push_back(each.file);
  }
  if (!std::filesystem::exists(path))
    fail("{}: found nothing there, expected an autoencoder's folder or file", path.string());
  if (std::filesystem::is_directory(path))
    fail("{}: found none of {} in the folder, expected an autoencoder", path.string(),
         fmt::join(files, ", "));
  if (path.filename() == "cfg.json" || path.filename() == "config.json")
    return recognise_format(path.parent_path());
  if (path.extension() == ".npz") return FileFormat::gemma_scope;
  if (path.extension() == ".pt" || path.extension() == ".pth") return FileFormat::openai;
  if (path.extension() == ".safetensors") return FileFormat::gemma_scope_2;
  fail(
      "{}: found no file of an autoencoder by its name, expected a folder with one of {}, or a .pt "
      "of OpenAI",
      path.string(), fmt::join(files, ", "));
}

Autoencoder load_autoencoder(const std::filesystem::path& path) {
  const FileFormat format = recognise_format(path);
  const bool is_folder = std::filesystem::is_directory(path);
  switch (format) {
    case FileFormat::saelens:
      return read_saelens(is_folder ? path : path.parent_path());
    case FileFormat::sparsify:
      return read_sparsify(is_folder ? path : path.parent_path());
    case FileFormat::dictionary_learning:
      return read_dictionary_learning(path);
    case FileFormat::openai:
      return read_openai(path);
    case FileFormat::gemma_scope:
    case FileFormat::gemma_scope_2:
      return read_gemma_scope(path);
  }
  fail("{}: found a format that vyx does not know", path.string());
}

void save_autoencoder(const Autoencoder& sae, const std::filesystem::path& path,
                      FileFormat format) {
  switch (format) {
    case FileFormat::saelens:
      return write_saelens(sae, path);
    case FileFormat::sparsify:
      return write_sparsify(sae, path);
    case FileFormat::dictionary_learning:
      return write_dictionary_learning(sae, path);
    case FileFormat::openai:
      return write_openai(sae, path);
    case FileFormat::gemma_scope:
      return write_gemma_scope(sae, path, GemmaScope::npz);
    case FileFormat::gemma_scope_2:
      return write_gemma_scope(sae, path, GemmaScope::safetensors);
  }
}

}  // namespace vyx::sae
