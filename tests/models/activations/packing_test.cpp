#include "tests/torch_support.h"

#include <map>

#include "core/io/files.h"
#include "models/activations/packing.h"
#include "tests/models/tiny_model.h"

using namespace vyx;
using namespace vyx::models;
using test::contains;
using test::error_of;
using test::TemporaryFolder;

namespace {

struct Packed {
  std::vector<std::vector<TokenId>> segments;  // in order, without begin tokens and padding
  int64_t rows = 0, padding = 0;
};

Packed unpack(Packer& packer, int64_t rows, TokenId begin = -1) {
  Packed result;
  while (const auto batch = packer.next(rows)) {
    const int64_t context = batch->ids.size(1);
    for (int64_t r = 0; r < batch->ids.size(0); ++r, ++result.rows) {
      int64_t last = 0;
      for (int64_t i = 0; i < context; ++i) {
        const auto segment = batch->segments.defined() ? batch->segments[r][i].item<int64_t>() : 1;
        if (segment == 0) {
          ++result.padding;
          continue;
        }
        const auto token = batch->ids[r][i].item<int64_t>();
        if (segment != last) {
          CHECK(segment == last + 1);
          result.segments.emplace_back();
          last = segment;
          if (begin >= 0) {
            CHECK(token == begin);
            CHECK(batch->special[r][i].item<bool>());
            continue;
          }
        }
        CHECK(!(batch->special.defined() && batch->special[r][i].item<bool>()));
        result.segments.back().push_back(token);
      }
    }
  }
  return result;
}

std::vector<TokenId> joined(const Packed& packed) {
  std::vector<TokenId> all;
  for (const auto& segment : packed.segments) all.insert(all.end(), segment.begin(), segment.end());
  return all;
}

}  // namespace

TEST_CASE("[models.packing] no token is lost, and a segment never holds two documents") {
  const TemporaryFolder folder;
  const LanguageModel model = test::tiny_model();
  std::string text;
  std::vector<TokenId> expected;
  for (int i = 0; i < 40; ++i) {
    // The letter tells the document.
    const std::string document =
        std::string(static_cast<size_t>(1 + i * 7 % 45), static_cast<char>('A' + i % 26)) + "\n";
    text += document + "%\n";
    const auto tokens = model.tokenizer().encode(document);
    expected.insert(expected.end(), tokens.begin(), tokens.end());
  }
  write_file(folder / "a.txt", text);
  for (const TokenId begin : {TokenId{-1}, TokenId{1}}) {
    for (const int64_t context : {2, 7, 16, 64}) {
      CAPTURE(context);
      Packer packer(TextSource({folder / "a.txt"}, {.separator = "%"}), model.tokenizer(),
                    {.context = context, .begin_token = begin, .pad_token = 2});
      const Packed packed = unpack(packer, 3, begin);
      CHECK(joined(packed) == expected);
      if (begin < 0) CHECK(packed.padding < context);  // only the last row
      for (const auto& segment : packed.segments) {
        CHECK(!segment.empty());
        std::map<TokenId, int> letters;
        for (const TokenId token : segment)
          if (model.tokenizer().bytes(token) != "\n") ++letters[token];
        CHECK(letters.size() <= 1);
      }
    }
  }
}

TEST_CASE("[models.packing] rows of one whole document need no segments") {
  const TemporaryFolder folder;
  const LanguageModel model = test::tiny_model();
  write_file(folder / "a.txt", std::string(64, 'x'));
  Packer packer(TextSource({folder / "a.txt"}), model.tokenizer(), {.context = 16});
  const auto batch = packer.next(4);
  REQUIRE(batch);
  CHECK(batch->ids.sizes() == at::IntArrayRef{4, 16});
  CHECK(!batch->segments.defined());
  CHECK(!batch->special.defined());
  CHECK(!packer.next(4));
}

TEST_CASE("[models.packing] a cursor goes on at the same token") {
  const TemporaryFolder folder;
  const LanguageModel model = test::tiny_model();
  write_file(folder / "a.txt", "The first document is longer than a row.\n%\nshort\n%\n \n%\n" +
                                   std::string(50, 'y'));
  write_file(folder / "b.jsonl", "{\"text\": \"one of the other file\"}\n{\"text\": \"last\"}\n");
  const auto packer = [&] {
    return Packer(TextSource({folder / "a.txt", folder / "b.jsonl"}, {.separator = "%"}),
                  model.tokenizer(), {.context = 8});
  };
  Packer whole = packer();
  std::vector<Json> cursors{to_json(whole.cursor())};
  std::vector<at::Tensor> ids;
  while (const auto batch = whole.next(2)) {
    ids.push_back(batch->ids);
    cursors.push_back(to_json(whole.cursor()));
  }
  REQUIRE(ids.size() > 5);
  for (size_t i = 0; i < ids.size(); ++i) {
    Packer again = packer();
    again.seek(packing_cursor_from_json(cursors[i], "cursor"));
    CHECK(to_json(again.cursor()) == cursors[i]);
    for (size_t k = i; k < ids.size(); ++k) CHECK(at::equal(again.next(2)->ids, ids[k]));
    CHECK(!again.next(2));
    CHECK(to_json(again.cursor()) == cursors.back());
  }
}

TEST_CASE("[models.packing] special tokens in the text are plain characters unless asked for") {
  const TemporaryFolder folder;
  const LanguageModel model = test::tiny_model();
  write_file(folder / "a.txt", "a<|im_end|>b");
  Packer plain(TextSource({folder / "a.txt"}), model.tokenizer(), {.context = 32});
  CHECK(!plain.next(1)->special.defined());
  Packer special(TextSource({folder / "a.txt"}), model.tokenizer(),
                 {.context = 32, .special_in_text = true});
  const auto batch = special.next(1);
  REQUIRE(batch->special.defined());
  CHECK(batch->special.sum().item<int64_t>() == 1);
  CHECK(batch->ids[0][1].item<int64_t>() == 2);
}

TEST_CASE("[models.packing] a text that has changed and an impossible context are refused") {
  const TemporaryFolder folder;
  const LanguageModel model = test::tiny_model();
  write_file(folder / "a.txt", "abc");
  CHECK(contains(
      error_of([&] { Packer(TextSource({folder / "a.txt"}), model.tokenizer(), {.context = 1}); }),
      "context of 1"));
  Packer packer(TextSource({folder / "a.txt"}), model.tokenizer(), {.context = 4});
  CHECK(contains(error_of([&] { packer.seek({.text = {}, .token = 3}); }), "changed"));
}
