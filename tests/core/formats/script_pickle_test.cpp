#include "core/formats/script_pickle.h"

#include "tests/test_support.h"

#include <string>
#include <vector>

#include "core/io/files.h"
#include "tests/core/formats/pickle_pieces.h"

using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::join;
using vyx::test::little;
using vyx::test::TemporaryFolder;
using vyx::test::text;

namespace {

std::string integer(int32_t value) {
  return join({"J", little(static_cast<uint32_t>(value))});
}

// A vector of float32 in record "0".
std::string tensor(int elements, int offset, int size, int stride) {
  return join({"ctorch._utils\n_rebuild_tensor_v2\n((", text("storage"), "ctorch\nFloatStorage\n",
               text("0"), text("cpu"), integer(elements), "tQ", integer(offset), integer(size),
               "\x85", integer(stride),
               "\x85\x89"
               "ccollections\nOrderedDict\n)RtR"});
}

// A module with one attribute.
std::string object(std::string_view value, std::string_view type = "__torch__\nNet") {
  return join({"\x80\2c", type, "\n)\x81}(", text("w"), value, "ub."});
}

std::string refusal(const std::string& pickle, size_t record_bytes = 16) {
  const TemporaryFolder folder;
  vyx::ZipWriter zip(folder / "m.pt");
  zip.add("m/data.pkl", pickle);
  zip.add("m/data/0", std::string(record_bytes, '\0'));
  for (const char* code : {"__torch__", "__torch__/a/b", "__torch__/torch/classes/quantized"})
    zip.add(fmt::format("m/code/{}.py", code), "");
  zip.commit();
  const std::string bytes = vyx::read_text_file(folder / "m.pt");
  const auto archive = vyx::ZipArchive::parse(std::as_bytes(std::span(bytes)), "m.pt");
  const std::string message = error_of([&] { vyx::check_script_pickle(archive, "m/", "data"); });
  CHECK_FALSE(contains(message, "\n"));
  return message;
}

}  // namespace

TEST_CASE("[core.script_pickle] what modules hold is let through") {
  CHECK(refusal(object(tensor(4, 0, 4, 1))).empty());
  CHECK(refusal(object(tensor(1, 0, 1000, 0), "__torch__.a.b\nNet"), 4).empty());  // expanded
  for (const char* value : {"N", "\x88", "K\7", "]", "}", ")"})
    CHECK(refusal(object(value)).empty());
  CHECK(refusal(object(join({"ctorch.jit._pickle\nbuild_intlist\n](K\1K\2e\x85R"}))).empty());
  CHECK(refusal(object(join({"ctorch.jit._pickle\nrestore_type_tag\n(]", text("List[int]"), "tR"})))
            .empty());
  CHECK(refusal(object(join({"ctorch\ndevice\n", text("cpu"), "\x85R"}))).empty());
}

TEST_CASE("[core.script_pickle.hostile] T6, T7: tensors that do not fit their records") {
  CHECK(contains(refusal(object(tensor(4, 0, 4, 1)), 3),
                 "found 3 bytes in the record \"m/data/0\", expected 4 elements of F32"));
  CHECK(contains(refusal(object(tensor(-4, 0, 4, 1))), "16 bytes in the record"));
  CHECK(contains(refusal(object(tensor(4, 0, 5, 1))), "expected one that lies within it"));
  CHECK(contains(refusal(object(tensor(4, 4, 1, 1))), "expected one that lies within it"));
  CHECK(contains(refusal(object(tensor(4, 0, 2, 4))), "expected one that lies within it"));
  CHECK(contains(refusal(object(tensor(4, 0, 2, -1))), "sizes or strides"));
  CHECK(contains(refusal(object(tensor(1, 0, 1 << 30, 0)), 4), "expected one that lies within it"));
}

TEST_CASE("[core.script_pickle.hostile] T11: what LibTorch's reader would follow") {
  CHECK(contains(refusal(object("cos\nsystem\n")), "found the object \"os system\""));
  CHECK(contains(refusal(object("N", "__torch__.torch.classes.quantized\nConv2dPackedParamsBase")),
                 "expected plain values, tensors, and objects of the archive's own classes"));
  CHECK(contains(refusal(object("N", "collections\nOrderedDict")), "found an object of a name"));
  CHECK(contains(refusal("\x80\4]."), "found protocol 4"));
  CHECK(contains(refusal(object("Nr\xff\xff\xff\xff")), "found a value kept as number 4294967295"));
  CHECK(contains(refusal(object("X\xff\xff\xff\xff")), "found the end of the file"));
  CHECK(contains(refusal(object(join({")", std::string(1'000'000, '\x85')}))),
                 "found more than 1000000 values"));
  CHECK(contains(refusal(object(join({")", std::string(200'000, '\x85')}))),
                 "values nested deeper than 500"));
  CHECK(refusal(object(join({")", std::string(490, '\x85')}))).empty());
  // Lists that are put into each other when all are there: as deep, and never seen to be by a count
  // of open brackets.
  std::string lists, linked;
  for (uint32_t i = 0; i < 600; ++i) lists += join({"]r", little(i)});
  for (uint32_t i = 0; i + 1 < 600; ++i) linked += join({"j", little(i), "j", little(i + 1), "a"});
  CHECK(
      contains(refusal(object(join({"(", lists, linked, "t"}))), "values nested deeper than 500"));
  CHECK(contains(refusal(object(join({"]q\1h\1a"}))), "found a value within itself"));
  std::string tag;
  for (int i = 0; i < 30'000; ++i) tag += "List[";
  CHECK(
      contains(refusal(object(join({"ctorch.jit._pickle\nrestore_type_tag\n(]", text(tag), "tR"}))),
               "found a type tag"));
}

TEST_CASE(
    "[core.script_pickle.hostile] a pickle cut at any byte, or with any byte changed, is refused "
    "or within its bounds") {
  const std::string good = object(tensor(4, 1, 2, 1));
  for (size_t size = 0; size < good.size(); ++size)
    CHECK_FALSE(refusal(good.substr(0, size)).empty());
  for (size_t at = 0; at < good.size(); ++at)
    for (const int flip : {1, 2, 128}) {
      std::string pickle = good;
      pickle[at] = static_cast<char>(pickle[at] ^ flip);
      refusal(pickle);
    }
}
