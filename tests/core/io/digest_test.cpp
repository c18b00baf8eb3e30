#include "tests/test_support.h"

#include "core/io/digest.h"
#include "core/io/files.h"

using vyx::sha256;

namespace {
std::string digest_of(std::string_view text) {
  return sha256(std::as_bytes(std::span(text)));
}
}  // namespace

TEST_CASE("[core.digest] the test vectors of FIPS 180-2") {
  CHECK(digest_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(digest_of(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("[core.digest] a file has the digest of its bytes") {
  const vyx::test::TemporaryFolder folder;
  vyx::write_file(folder / "abc", "abc");
  vyx::write_file(folder / "empty", "");
  CHECK(vyx::sha256_file(folder / "abc") == digest_of("abc"));
  CHECK(vyx::sha256_file(folder / "empty") == digest_of(""));
  CHECK(vyx::test::contains(vyx::test::error_of([&] { vyx::sha256_file(folder / "absent"); }),
                            "/absent: cannot open (No such file"));
}
