#include "core/io/digest.h"

#include <openssl/evp.h>

#include <array>

#include "core/base/error.h"
#include "core/io/files.h"

namespace vyx {

std::string sha256(std::span<const std::byte> bytes) {
  std::array<unsigned char, 32> digest;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
    fail("sha256: OpenSSL refused to compute a digest; is SHA-256 disabled on this machine?");
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

std::string sha256(std::string_view text) {
  return sha256(std::as_bytes(std::span(text)));
}

std::string sha256_file(const std::filesystem::path& path) {
  return sha256(MappedFile(path).bytes());
}

}  // namespace vyx
