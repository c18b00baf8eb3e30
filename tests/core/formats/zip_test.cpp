#include "core/formats/zip.h"

#include "tests/test_support.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <vector>

using vyx::ZipArchive;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

ZipArchive parse(const std::string& bytes) {
  return ZipArchive::parse(std::as_bytes(std::span(bytes)), "x.zip");
}

std::string text_of(const vyx::ZipContent& content) {
  return {reinterpret_cast<const char*>(content.bytes.data()), content.bytes.size()};
}

std::string refusal(const std::string& bytes) {
  const std::string message = error_of([&] {
    const ZipArchive zip = parse(bytes);
    for (const vyx::ZipEntry& entry : zip.entries()) zip.read(entry);
  });
  CHECK_FALSE(contains(message, "\n"));
  return message;
}

struct Entry {
  std::string name, content;  // as it is packed
  uint16_t method = 0;
  uint32_t size = 0, crc = 0;  // of what it unpacks to; 0: of the content itself
};

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// An archive as simple tools write it; `flags` are of every entry.
std::string archive(const std::vector<Entry>& entries, uint16_t flags = 0,
                    const std::string& between = "", bool wide_end = false) {
  std::string out, directory;
  for (const Entry& entry : entries) {
    const uint32_t size =
        entry.size != 0 ? entry.size : static_cast<uint32_t>(entry.content.size());
    const uint32_t crc =
        entry.crc != 0
            ? entry.crc
            : static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(entry.content.data()),
                                            entry.content.size()));
    std::string common;
    put<uint16_t>(common, 20);
    put<uint16_t>(common, flags);
    put<uint16_t>(common, entry.method);
    put<uint32_t>(common, 0);
    put<uint32_t>(common, crc);
    put<uint32_t>(common, static_cast<uint32_t>(entry.content.size()));
    put<uint32_t>(common, size);
    put<uint16_t>(common, static_cast<uint16_t>(entry.name.size()));
    put<uint16_t>(common, 0);
    put<uint32_t>(directory, 0x02014b50);
    put<uint16_t>(directory, 20);
    directory += common + std::string(10, '\0');
    put<uint32_t>(directory, static_cast<uint32_t>(out.size()));
    directory += entry.name;
    out += "PK\3\4" + common + entry.name + entry.content + between;
  }
  const auto offset = static_cast<uint32_t>(out.size());
  out += directory;
  if (wide_end) {  // as PyTorch writes it, needed or not
    const uint64_t end = out.size();
    out += "PK\6\6" + std::string(20, '\0');
    for (const uint64_t value : {uint64_t{entries.size()}, uint64_t{entries.size()},
                                 uint64_t{directory.size()}, uint64_t{offset}})
      put(out, value);
    out += "PK\6\7" + std::string(4, '\0');
    put(out, end);
    put<uint32_t>(out, 1);
  }
  out += "PK\5\6" + std::string(4, '\0');
  put<uint16_t>(out, static_cast<uint16_t>(entries.size()));
  put<uint16_t>(out, static_cast<uint16_t>(entries.size()));
  put<uint32_t>(out, static_cast<uint32_t>(directory.size()));
  put<uint32_t>(out, offset);
  return out + std::string(2, '\0');
}

Entry deflated(const std::string& name, const std::string& content) {
  std::string packed(compressBound(content.size()) + 16, '\0');
  z_stream stream = {};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return {name, packed, 8, static_cast<uint32_t>(content.size()),
          static_cast<uint32_t>(
              crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size()))};
}

}  // namespace

TEST_CASE("[core.zip] stored and deflated entries are read") {
  const std::string text = "snow man, snow man, snow man";
  const std::string bytes = archive({{"a", "first"}, deflated("folder/b", text), {"empty", ""}});
  const ZipArchive zip = parse(bytes);
  CHECK(zip.entries().size() == 3);
  CHECK(text_of(zip.read(*zip.find("a"))) == "first");
  CHECK(text_of(zip.read(*zip.find("folder/b"))) == text);
  CHECK(text_of(zip.read(*zip.find("empty"))).empty());
  CHECK(zip.find("b") == nullptr);
}

TEST_CASE("[core.zip] 64-bit end records are read, and held against the other") {
  const std::string bytes = archive({{"a", "first"}}, 0, "", true);
  const ZipArchive zip = parse(bytes);
  CHECK(text_of(zip.read(*zip.find("a"))) == "first");
  for (const size_t from_end :
       {size_t{98 - 32}, size_t{98 - 40}, size_t{98 - 48}, size_t{42 - 8}}) {
    std::string lying = bytes;
    lying[lying.size() - from_end] = static_cast<char>(lying[lying.size() - from_end] + 1);
    CHECK_FALSE(refusal(lying).empty());
  }
  std::string lying = bytes;
  lying[lying.size() - 14] = lying[lying.size() - 12] = 2;  // entries
  CHECK(contains(refusal(lying), "does not match the other"));
}

TEST_CASE("[core.zip] what is written is read back, aligned, and the same bytes each time") {
  const vyx::test::TemporaryFolder folder;
  for (const char* name : {"x", "y"}) {
    vyx::ZipWriter writer(folder / name);
    writer.add("a/one", std::string(100, '1'));
    writer.add("a/two", std::string_view("second"));
    CHECK_FALSE(std::filesystem::exists(folder / name));
    writer.commit();
  }
  const std::string bytes = vyx::read_text_file(folder / "x");
  CHECK(bytes == vyx::read_text_file(folder / "y"));
  const ZipArchive zip = parse(bytes);
  CHECK(text_of(zip.read(*zip.find("a/two"))) == "second");
  for (const vyx::ZipEntry& entry : zip.entries())
    CHECK((entry.packed.data() - std::as_bytes(std::span(bytes)).data()) % 64 == 0);
}

TEST_CASE("[core.zip.hostile] T8: an entry that would inflate to much more than it is") {
  const std::string zeros(80u << 20, '\0');
  CHECK(
      contains(refusal(archive({deflated("bomb", zeros)})), "expected at most 100 times as many"));
  // Each within the limit of one entry, and refused by the directory alone.
  const std::string half = zeros.substr(0, 40u << 20);
  Entry small = deflated("0", half);
  CHECK(refusal(archive({small})).empty());
  std::vector<Entry> many(3, small);
  for (size_t i = 0; i < many.size(); ++i) many[i].name = std::to_string(i);
  CHECK(contains(error_of([&] { parse(archive(many)); }),
                 "that inflate to 125829120, expected at most 100 times as many"));
  Entry lie = deflated("lie", std::string(1000, 'a'));
  lie.size = 2000;
  CHECK(contains(refusal(archive({lie})), "entry \"lie\": found damaged deflate data"));
  lie.size = 500;
  CHECK(contains(refusal(archive({lie})), "found damaged deflate data"));
  CHECK(
      contains(refusal(archive({{"bad", "\xff\xff\xff", 8, 3, 0}})), "found damaged deflate data"));
  CHECK(contains(refusal(archive({{"bad", "abc", 12, 3, 0}})), "found compression method 12"));
}

TEST_CASE("[core.zip.hostile] T9: sizes, offsets and sums that lie") {
  CHECK(contains(refusal(archive({{"a", "abc", 0, 3, 1}})), "CRC-32 that does not match"));
  CHECK(
      contains(refusal(archive({{"a", "abc", 0, 4, 0}})), "found 3 bytes of a stored entry of 4"));
  std::string bytes = archive({{"a", "abc"}});
  bytes[18] = 2;  // the packed size in front of the data
  CHECK(contains(refusal(bytes), "found other sizes or another CRC at its data"));
  bytes = archive({{"a", "abc"}});
  bytes[30] = 'b';  // the name in front of the data
  CHECK(contains(refusal(bytes), "found the name \"b\" at its data"));
  bytes = archive({{"a", "abc"}});
  bytes[bytes.size() - 6] = 77;  // where the directory begins
  CHECK(contains(refusal(bytes), "expected it to end at byte"));
}

TEST_CASE("[core.zip.hostile] T10: names, duplicates, and data around the entries") {
  CHECK(contains(refusal(archive({{"a", "1"}, {"a", "2"}})), "found the entry \"a\" again"));
  for (const char* name : {"/etc/passwd", "../a", "a/../../b", "a\\b", "\xff", ""})
    CHECK(contains(refusal(archive({{name, "1"}})),
                   "expected a relative path that stays in its folder"));
  const std::string good = archive({{"a", "1"}, {"b", "2"}});
  CHECK_FALSE(refusal("#!/bin/sh\n" + good).empty());
  CHECK(contains(refusal(good + "more"), "end record of a zip file"));
  CHECK(contains(refusal(archive({{"a", "1"}, {"b", "2"}}, 0, "gap")),
                 "found \"b\" at byte 35, expected it at byte 32"));
  CHECK(contains(refusal(archive({{"a", "1"}}, 1)), "encrypted"));
  std::string shared = archive({{"a", "1"}, {"b", "2"}});
  CHECK(refusal(shared).empty());
  CHECK(contains(refusal("PK\3\4"), "found 4 bytes, expected a zip file"));
}

TEST_CASE(
    "[core.zip.hostile] an archive cut at any byte, or with any byte changed, is refused or read "
    "within its bounds") {
  const std::string good = archive({{"a", "first"}, deflated("b", std::string(50, 'b'))});
  for (size_t size = 0; size < good.size(); ++size)
    CHECK_FALSE(refusal(good.substr(0, size)).empty());
  for (size_t at = 0; at < good.size(); ++at)
    for (const int flip : {1, 4, 128}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      refusal(bytes);
    }
}
