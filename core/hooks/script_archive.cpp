#include "core/hooks/script_archive.h"

#include <caffe2/serialize/inline_container.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/csrc/jit/serialization/export.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/script_error.h"
#include "core/hooks/script_vetting.h"
#include "core/io/files.h"

namespace vyx {
namespace {

std::atomic<bool> trusted = false;

struct Found {
  torch::jit::ExtraFilesMap extra_files;
  bool traced = false;
};

/// The mapped file as LibTorch reads it, so that what is loaded is what was vetted.
class MappedReader : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit MappedReader(const MappedFile& file) : bytes_(file.bytes()) {}
  size_t size() const override { return bytes_.size(); }
  size_t read(uint64_t at, void* out, size_t size, const char* /*what*/) const override {
    if (at > bytes_.size()) return 0;
    const auto part = bytes_.subspan(at, std::min<uint64_t>(size, bytes_.size() - at));
    if (!part.empty()) std::memcpy(out, part.data(), part.size());
    return part.size();
  }

 private:
  std::span<const std::byte> bytes_;
};

void require_zip(const MappedFile& file) {
  constexpr std::string_view kZip = "PK\x03\x04";
  const std::string_view start(reinterpret_cast<const char*>(file.bytes().data()),
                               std::min(file.bytes().size(), kZip.size()));
  if (start != kZip)
    fail(
        "{}: not a TorchScript archive, which is a zip file; save one with "
        "torch.jit.script(model).save(path)",
        file.path().string());
}

/// Throws Error for what is recognisably not a TorchScript archive; returns which of `extra_files`
/// it has.
Found inspect(const std::shared_ptr<MappedReader>& reader, const std::filesystem::path& path,
              const std::vector<std::string>& extra_files) {
  std::optional<caffe2::serialize::PyTorchStreamReader> archive;
  try {
    archive.emplace(reader);
  } catch (const std::exception& error) {
    fail("{}: the zip file is truncated or damaged ({}); fetch or write it again", path.string(),
         reason_of(error));
  }
  if (!archive->hasRecord("constants.pkl")) {
    fail(
        "{}: found {}, expected a TorchScript archive; save one with "
        "torch.jit.script(model).save(path)",
        path.string(),
        archive->hasRecord("data.pkl") ? "a pickle of torch.save (weights without code)"
                                       : "a zip file of another kind");
  }
  // Tracing leaves the inputs that it ran on.
  Found found{.extra_files = {}, .traced = archive->hasRecord("traced_inputs.pkl")};
  for (const std::string& name : extra_files) {
    if (archive->hasRecord("extra/" + name)) found.extra_files.emplace(name, "");
  }
  return found;
}

}  // namespace

ScriptArchive load_script(const std::filesystem::path& path,
                          const std::vector<std::string>& extra_files, c10::Device device) {
  const MappedFile file(path);
  require_zip(file);
  const auto reader = std::make_shared<MappedReader>(file);
  if (!trusted) vet_script(file.bytes(), path.string());
  ScriptArchive archive;
  auto [extra, traced] = inspect(reader, path, extra_files);
  try {
    archive.module = torch::jit::load(reader, device, extra);
  } catch (const std::exception& error) {  // not only c10::Error: its unpickler throws bad_alloc
                                           // and bad_function_call too
    fail("{}: not loadable as TorchScript: {}", path.string(), reason_of(error));
  }
  archive.module.eval();
  archive.traced = traced;
  archive.extra_files.insert(extra.begin(), extra.end());
  return archive;
}

void trust_scripts(bool trust) {
  trusted = trust;
}

void save_script(const torch::jit::Module& module, const std::filesystem::path& path,
                 const std::map<std::string, std::string>& extra_files) {
  AtomicFile file(path);
  std::exception_ptr failure;
  // The first error waits here and all later bytes go nowhere, so that libtorch's zip writer, which
  // can fail in its destructor, never has to deal with it.
  const auto write = [&](const void* data, size_t size) {
    if (!failure) {
      try {
        file.write(std::span(static_cast<const std::byte*>(data), size));
      } catch (...) {
        failure = std::current_exception();
      }
    }
    return size;
  };
  try {
    torch::jit::ExportModule(module, write,
                             torch::jit::ExtraFilesMap(extra_files.begin(), extra_files.end()));
  } catch (const std::exception& error) {
    if (!failure) fail("{}: the module could not be saved: {}", path.string(), reason_of(error));
  }
  if (failure) std::rethrow_exception(failure);
  file.commit();
}

}  // namespace vyx
