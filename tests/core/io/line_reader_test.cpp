#include "core/io/line_reader.h"

#include <zlib.h>

#include <random>
#include <string>
#include <vector>

#include "tests/test_support.h"

using vyx::LineReader;
using vyx::write_file;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::TemporaryFolder;

namespace {

std::string gzip(std::string_view text) {
  z_stream stream = {};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&stream, text.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::vector<std::string> lines_of(const std::filesystem::path& path,
                                  uint64_t max_line = LineReader::kMaxLine) {
  LineReader reader(path, max_line);
  std::vector<std::string> lines;
  for (std::string_view line; reader.next(line);) {
    lines.emplace_back(line);
    CHECK(reader.number() == lines.size());
  }
  return lines;
}

}  // namespace

TEST_CASE("[core.line_reader] plain and gzip files give the same lines, whatever the sizes") {
  const TemporaryFolder folder;
  std::mt19937_64 random(1);
  std::vector<std::string> expected;
  std::string text;
  for (int i = 0; i < 4000; ++i) {
    // Lines of nothing, of a few letters, and of more than a chunk of the unpacker.
    const size_t length = i % 100 == 7 ? 300'000 : random() % 90;
    std::string line;
    for (size_t k = 0; k < length; ++k) line += static_cast<char>('a' + random() % 26);
    if (i != 3999) line += '\n';
    text += line;
    if (!line.empty()) expected.push_back(line);
  }
  write_file(folder / "plain", text);
  write_file(folder / "packed", gzip(text));
  const size_t half = text.size() / 2;
  write_file(folder / "members", gzip(text.substr(0, half)) + gzip("") + gzip(text.substr(half)) +
                                     std::string(512, '\0'));
  for (const char* file : {"plain", "packed", "members"}) {
    CAPTURE(file);
    CHECK(lines_of(folder / file) == expected);
  }
}

TEST_CASE("[core.line_reader] an empty file has no line, and a last line needs no end") {
  const TemporaryFolder folder;
  for (const bool packed : {false, true}) {
    const auto put = [&](std::string_view text) {
      write_file(folder / "file", packed ? gzip(text) : std::string(text));
    };
    put("");
    CHECK(lines_of(folder / "file").empty());
    put("\n\nend");
    CHECK(lines_of(folder / "file") == std::vector<std::string>{"\n", "\n", "end"});
  }
}

TEST_CASE("[core.line_reader] a line beyond the limit is refused in bounded memory") {
  const TemporaryFolder folder;
  const std::string bomb = "short\n" + std::string(50u << 20, 'x');  // 50 KB packed
  write_file(folder / "plain", bomb);
  write_file(folder / "packed", gzip(bomb));
  for (const char* file : {"plain", "packed"}) {
    const std::string error = error_of([&] { lines_of(folder / file, 1000); });
    CHECK(contains(error, std::string(file) + ":2: found a line of more than 1000 bytes"));
  }
  write_file(folder / "fits", "12345\n1234");
  CHECK(lines_of(folder / "fits", 6).size() == 2);
}

TEST_CASE("[core.line_reader] damaged, cut and padded gzip data are refused by name") {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "line " + std::to_string(i * 7919) + "\n";
  const std::string packed = gzip(text);
  for (const size_t length :
       {size_t{2}, size_t{11}, packed.size() / 2, packed.size() - 9, packed.size() - 1}) {
    CAPTURE(length);
    write_file(folder / "cut.gz", packed.substr(0, length));
    CHECK(contains(error_of([&] { lines_of(folder / "cut.gz"); }),
                   "cut.gz: found gzip data that end too early"));
  }
  std::string damaged = packed;
  damaged[packed.size() / 2] ^= 0x55;
  write_file(folder / "bad.gz", damaged);
  CHECK(
      contains(error_of([&] { lines_of(folder / "bad.gz"); }), "bad.gz: found damaged gzip data"));
  write_file(folder / "tail.gz", packed + "tail");
  CHECK(contains(error_of([&] { lines_of(folder / "tail.gz"); }),
                 "tail.gz: found 4 bytes after the gzip data"));
}

TEST_CASE("[core.line_reader] what is no regular file is refused") {
  CHECK(contains(error_of([] { LineReader("/dev/zero"); }), "regular file"));
  const TemporaryFolder folder;
  CHECK(contains(error_of([&] { LineReader{folder.path()}; }), "folder"));
}

TEST_CASE("[core.line_reader] each line that is not blank comes with its place, without its end") {
  const TemporaryFolder folder;
  const std::string text = "one\r\n\n \t\r\n two \n\rthree\r\r\n\r\nfour";
  write_file(folder / "plain", text);
  write_file(folder / "packed", gzip(text));
  for (const char* file : {"plain", "packed"}) {
    const std::string path = (folder / file).string();
    std::vector<std::string> lines, places;
    vyx::for_each_line(path, [&](std::string_view line, const std::string& where) {
      lines.emplace_back(line);
      places.push_back(where);
    });
    CHECK(lines == std::vector<std::string>{"one", " two ", "\rthree\r", "four"});
    CHECK(places == std::vector<std::string>{path + ":1", path + ":4", path + ":5", path + ":7"});
  }
  write_file(folder / "empty", "");
  vyx::for_each_line(folder / "empty",
                     [](std::string_view, const std::string&) { FAIL("a line"); });
}
