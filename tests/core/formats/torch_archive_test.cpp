#include "core/formats/torch_archive.h"

#include "tests/test_support.h"

#include <vector>

#include "core/formats/zip.h"
#include "tests/core/formats/pickle_pieces.h"

using vyx::ElementType;
using vyx::TorchArchive;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::join;
using vyx::test::TemporaryFolder;
using vyx::test::text;

namespace {

std::string byte(int value) {
  return std::string(1, static_cast<char>(value));
}

// A storage of `elements` floats in record "0".
std::string storage(int elements, std::string_view type = "torch\nFloatStorage\n") {
  return join({"(", text("storage"), "c", type, text("0"), text("cpu"), "K", byte(elements), "tQ"});
}

// A vector in it: offset, size and stride.
std::string tensor(int elements, int offset, int size, int stride) {
  return join({"ctorch._utils\n_rebuild_tensor_v2\n(", storage(elements), "K", byte(offset), "K",
               byte(size), "\x85K", byte(stride),
               "\x85\x89"
               "ccollections\nOrderedDict\n)RtR"});
}

std::string dictionary(std::string_view value) {
  return join({"\x80\2}", text("w"), value, "s."});
}

std::string archive(const TemporaryFolder& folder, const std::string& pickle,
                    size_t record_bytes = 16) {
  vyx::ZipWriter zip(folder / "x.pt");
  zip.add("archive/data.pkl", pickle);
  zip.add("archive/data/0", std::string(record_bytes, '\0'));
  zip.add("archive/version", "3\n");
  zip.commit();
  return vyx::read_text_file(folder / "x.pt");
}

TorchArchive parse(const std::string& bytes) {
  return vyx::parse_torch_archive(std::as_bytes(std::span(bytes)), "x.pt");
}

std::string refusal(const std::string& pickle, size_t record_bytes = 16) {
  const TemporaryFolder folder;
  const std::string bytes = archive(folder, pickle, record_bytes);
  const std::string message = error_of([&] { parse(bytes); });
  CHECK_FALSE(contains(message, "\n"));
  return message;
}

}  // namespace

TEST_CASE("[core.torch_archive] what is written is read back, and the same bytes each time") {
  const TemporaryFolder folder;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> k = {32};
  TorchArchive archive;
  archive.tensors["encoder.weight"] = {
      ElementType::f32, {2, 3}, {3, 1}, 0, std::as_bytes(std::span(values))};
  archive.tensors["transposed"] = {
      ElementType::f32, {3, 2}, {1, 3}, 0, std::as_bytes(std::span(values))};
  archive.tensors["k"] = {ElementType::i32, {}, {}, 0, std::as_bytes(std::span(k))};
  archive.values = {
      {"activation", "TopK"},
      {"state", {{"k", 32}, {"big", int64_t{1} << 40}, {"x", -0.5}, {"list", {1, nullptr, true}}}}};
  vyx::write_torch_archive(folder / "x.pt", archive);
  vyx::write_torch_archive(folder / "y.pt", archive);
  const std::string bytes = vyx::read_text_file(folder / "x.pt");
  CHECK(bytes == vyx::read_text_file(folder / "y.pt"));
  const TorchArchive read = parse(bytes);
  CHECK(read.values == archive.values);
  CHECK(read.tensors.size() == 3);
  CHECK(read.tensors.at("transposed").strides == std::vector<int64_t>{1, 3});
  CHECK(read.tensors.at("k").shape.empty());
  const auto& stored = read.tensors.at("encoder.weight").storage;
  CHECK(std::equal(stored.begin(), stored.end(), std::as_bytes(std::span(values)).begin()));
}

TEST_CASE("[core.torch_archive] tensors in nested dictionaries are named by their path") {
  const TemporaryFolder folder;
  const std::string inner = join({"}", text("weight"), tensor(4, 0, 4, 1), "s"});
  const std::string bytes = archive(folder, dictionary(inner));
  CHECK(parse(bytes).tensors.begin()->first == "w.weight");
}

TEST_CASE("[core.torch_archive.hostile] T6, T7: tensors that do not fit their records") {
  CHECK(refusal(dictionary(tensor(4, 0, 4, 1))).empty());
  CHECK(refusal(dictionary(tensor(4, 1, 3, 1))).empty());
  CHECK(contains(refusal(dictionary(tensor(4, 0, 4, 1)), 3),
                 "found 3 bytes in the record \"archive/data/0\", expected 4 elements of F32"));
  CHECK(contains(refusal(dictionary(tensor(4, 0, 4, 1)), 17), "found 17 bytes in the record"));
  CHECK(contains(refusal(dictionary(tensor(4, 0, 5, 1))), "expected one that lies within it"));
  CHECK(contains(refusal(dictionary(tensor(4, 1, 4, 1))), "expected one that lies within it"));
  CHECK(contains(refusal(dictionary(tensor(4, 0, 3, 2))), "expected one that lies within it"));
  CHECK(contains(refusal(dictionary(tensor(4, 0, 4, 0))), "expected one that lies within it"));
  CHECK(contains(refusal(dictionary(storage(4, "torch\nTypedStorage\n"))),
                 "found the object \"torch TypedStorage\""));
  CHECK(contains(refusal(dictionary(storage(4))), "found a storage, expected tensors"));
}

TEST_CASE("[core.torch_archive.hostile] T11: pickles that ask for more than values") {
  CHECK(contains(refusal(dictionary(join({"cos\nsystem\n", text("id"), "\x85R"}))),
                 "found the object \"os system\", expected tensors and plain values only"));
  CHECK(contains(refusal("\x80\4}."), "found protocol 4, expected 2"));
  CHECK(contains(refusal("\x80\2}"), "the end of the file"));
  CHECK(contains(refusal("\x80\2]."), "found a list, expected a dict of tensors"));
  CHECK(contains(refusal(dictionary("i")), "found opcode 0x69"));
  CHECK(
      contains(refusal(dictionary("j\xff\xff\xff\xff")), "found a reference to value 4294967295"));
  CHECK(contains(refusal(dictionary("X\xff\xff\xff\xff")),
                 "found the end of the file, expected 4294967295 more bytes"));
  CHECK(contains(refusal(dictionary("\x8a\xff")), "found an int of 255 bytes"));
  CHECK(contains(refusal("\x80\2s."), "found an empty stack"));
  CHECK(contains(refusal("\x80\2}(s."), "found an empty stack"));
  CHECK(contains(refusal(join({"\x80\2}", text("w"), "N(s."})),
                 "found an empty stack"));  // the values lie below the mark
  CHECK(contains(refusal("\x80\2}t."), "found no mark"));
  CHECK(contains(refusal(dictionary("K\1)R")), "found a call of an int"));
  CHECK(contains(refusal(join({"\x80\2}(", text("w"), "NNu."})), "found a key without a value"));
  CHECK(contains(refusal(join({"\x80\2}", text("w"), "Ns", text("w"), "Ns."})),
                 "the key \"w\" again"));
  CHECK(contains(refusal(dictionary(text("\xff"))), "expected UTF-8"));
}

TEST_CASE(
    "[core.torch_archive.hostile] nesting, cycles and shared values cost no stack and little "
    "memory") {
  CHECK(contains(refusal(dictionary(join({")", std::string(400'000, '\x85')}))),
                 "nested deeper than 64"));
  CHECK(refusal(dictionary(join({")", std::string(60, '\x85')}))).empty());
  CHECK(
      contains(refusal(dictionary(join({")", std::string(70, '\x85')}))), "nested deeper than 64"));
  CHECK(contains(refusal(dictionary("]q\1h\1a")), "nested deeper than 64"));  // a list in itself
  std::string bomb = ")";
  for (int i = 1; i < 40; ++i) bomb += join({"q", byte(i), "h", byte(i), "\x86"});  // (x, x)
  CHECK(contains(refusal(dictionary(bomb)), "more than 100000 values"));
  CHECK(contains(refusal(dictionary(std::string(600'000, 'N'))), "data.pkl of"));
}

TEST_CASE("[core.torch_archive.hostile] a text counts each time that it is referred to") {
  const std::string long_text = join({"X", std::string("\0\0\1\0", 4), std::string(1 << 16, 'x')});
  const auto times = [&](size_t count) {
    std::string often;
    for (size_t i = 0; i < count; ++i) often += std::string("h\0", 2);
    return refusal(dictionary(join({"](", long_text, std::string("q\0", 2), often, "e"})));
  };
  CHECK(times(100).empty());
  CHECK(contains(times(90'000), "found more than 8388608 bytes of text"));
  // As a key, too: the path of what lies below is as long.
  std::string keys = join({"}", long_text, std::string("q\0", 2)});
  for (int i = 1; i < 40; ++i) keys += std::string("}h\0", 3);
  CHECK(contains(refusal(dictionary(join({keys, "N", std::string(40, 's')}))), "bytes of text"));
}

TEST_CASE("[core.torch_archive.hostile] T15: what is no such archive") {
  CHECK(contains(error_of([] { parse("\x80\2\x8a\x0al\xfc\x9c"); }), "found a bare pickle"));
  CHECK(contains(error_of([] { parse("GGUF"); }), "found no zip archive"));
  const TemporaryFolder folder;
  for (const char* extra : {"archive/constants.pkl", "elsewhere/x"}) {
    vyx::ZipWriter zip(folder / "x.pt");
    zip.add("archive/data.pkl", "\x80\2}.");
    zip.add(extra, "");
    zip.commit();
    CHECK_FALSE(error_of([&] { parse(vyx::read_text_file(folder / "x.pt")); }).empty());
  }
}

TEST_CASE(
    "[core.torch_archive.hostile] a pickle cut at any byte, or with any byte changed, is refused "
    "or read within its bounds") {
  const TemporaryFolder folder;
  const std::string good = dictionary(tensor(4, 1, 2, 1));
  for (size_t size = 0; size < good.size(); ++size)
    CHECK_FALSE(refusal(good.substr(0, size)).empty());
  for (size_t at = 0; at < good.size(); ++at)
    for (const int flip : {1, 2, 128}) {
      std::string pickle = good;
      pickle[at] = static_cast<char>(pickle[at] ^ flip);
      try {
        const std::string bytes = archive(folder, pickle);
        for (const auto& [name, view] : parse(bytes).tensors)
          CHECK(view.offset < static_cast<int64_t>(view.storage.size()));
      } catch (const vyx::Error&) {
      }
    }
}
