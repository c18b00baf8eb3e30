#include "core/formats/torch_archive.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/formats/pickler.h"
#include "core/formats/unpickler.h"
#include "core/formats/zip.h"

namespace vyx {
namespace {

constexpr uint64_t kMaxPickleBytes = 512u << 10;

// The folder that all records are in, "archive/", found by its pickle.
std::string folder_of(const ZipArchive& zip) {
  std::string folder;
  for (const ZipEntry& entry : zip.entries())
    if (const size_t slash = entry.name.find('/');
        slash != std::string::npos && entry.name.substr(slash) == "/data.pkl")
      folder = entry.name.substr(0, slash + 1);
  if (folder.empty())
    fail("{}: found no data.pkl in the archive, expected a file of torch.save", zip.source());
  for (const ZipEntry& entry : zip.entries())
    if (!entry.name.starts_with(folder))
      fail("{}: found {} outside {}, expected one folder", zip.source(), quote(entry.name),
           quote(folder));
  if (zip.find(folder + "constants.pkl") != nullptr)
    fail(
        "{}: found a TorchScript archive, expected tensors of torch.save(module.state_dict(), "
        "path)",
        zip.source());
  return folder;
}

}  // namespace

TorchArchive parse_torch_archive(std::span<const std::byte> bytes, std::string source) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("\x80\x02") || text.starts_with("\x80\x04"))
    fail(
        "{}: found a bare pickle, as torch.save wrote before 1.6, expected a zip archive; in "
        "Python, load it and save it again",
        source);
  if (!text.starts_with("PK"))
    fail("{}: found no zip archive, expected a file of torch.save", source);
  const ZipArchive zip = ZipArchive::parse(bytes, std::move(source));
  const std::string folder = folder_of(zip);
  if (const ZipEntry* order = zip.find(folder + "byteorder")) {
    const ZipContent content = zip.read(*order);
    const std::string_view found(reinterpret_cast<const char*>(content.bytes.data()),
                                 content.bytes.size());
    if (found != "little")
      fail("{}: found byte order {}, expected \"little\"", zip.source(), quote(found));
  }
  const ZipEntry& pickle = *zip.find(folder + "data.pkl");
  if (pickle.size > kMaxPickleBytes)
    fail("{}: found a data.pkl of {} bytes, expected at most {}", zip.source(), pickle.size,
         kMaxPickleBytes);
  const ZipContent content = zip.read(pickle);
  return unpickle(content.bytes, zip, folder);
}

void write_torch_archive(const std::filesystem::path& path, const TorchArchive& archive) {
  ZipWriter zip(path);
  zip.add("archive/data.pkl", pickle(archive));
  zip.add("archive/byteorder", "little");
  size_t record = 0;
  for (const auto& [name, tensor] : archive.tensors)
    zip.add(fmt::format("archive/data/{}", record++), tensor.storage);
  zip.add("archive/version", "3\n");
  zip.commit();
}

}  // namespace vyx
