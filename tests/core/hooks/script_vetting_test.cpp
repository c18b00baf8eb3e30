#include "tests/core/hooks/script_fixtures.h"
// torch first
#include <torch/csrc/jit/runtime/operator.h>

#include "core/formats/zip.h"
#include "core/hooks/script_archive.h"
#include "core/hooks/script_operators.h"
#include "core/hooks/script_vetting.h"
#include "core/io/files.h"

namespace vyx {
namespace {

using test::contains;
using test::error_of;
using test::Module;
using test::TemporaryFolder;

// An archive with this code, as vetting sees it.
std::string refusal_of_files(const std::vector<std::pair<std::string, std::string>>& files) {
  const TemporaryFolder folder;
  ZipWriter zip(folder / "m.pt");
  zip.add("m/data.pkl", "\x80\2N.");
  zip.add("m/constants.pkl", "\x80\2).");
  for (const auto& [name, content] : files) zip.add("m/" + name, content);
  zip.commit();
  const std::string bytes = read_text_file(folder / "m.pt");
  const std::string message =
      error_of([&] { vet_script(std::as_bytes(std::span(bytes)), "m.pt"); });
  CHECK_FALSE(contains(message, "\n"));
  return message;
}

std::string refusal(const std::string& statement) {
  return refusal_of_files(
      {{"code/__torch__.py", "class Net(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    " +
                                 statement + "\n    return x\n"}});
}

std::string repeated(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

}  // namespace

TEST_CASE(
    "[core.script_vetting] an archive whose loading writes a file is refused, and does not run") {
  const TemporaryFolder folder;
  save_script(test::writing_when_loaded((folder / "written").string()), folder / "m.pt");
  const std::string message = error_of([&] { load_script(folder / "m.pt"); });
  CHECK(contains(message, "m.pt: code/__torch__"));
  CHECK(contains(message, "found the operator \"aten::save\""));
  CHECK(contains(message, "--trust"));
  CHECK_FALSE(std::filesystem::exists(folder / "written"));

  trust_scripts(true);
  load_script(folder / "m.pt");
  trust_scripts(false);
  CHECK(std::filesystem::exists(folder / "written"));  // what was refused
}

TEST_CASE("[core.script_vetting] modules that compute are let through") {
  for (const Module& module : {test::stack(), test::forked(), test::readout(true, true).module}) {
    const TemporaryFolder folder;
    save_script(module, folder / "m.pt");
    CHECK(error_of([&] { load_script(folder / "m.pt"); }).empty());
  }
  for (const char* statement :
       {"x = torch.add(x, torch.save_not_an_operator(x))",
        "ops.prim.RaiseException(\"torch.save\")",
        "x = torch.linear(self.quantized_weight, self.saved)  # torch.save(x)",
        "x = (self).set_weights(getattr(self, \"0\"), 1.5e-3, 'x.set_(y)')",
        "x = torch._set_item(d, \"ops\", __torch__.torch.nn.functional.relu(x, ))",
        "torch.warn(\"a\\\"b\", 2)", "i = torch.__range_length(0, torch.__not__(x), 2)",
        "x = x.ops.y", "_ff_block, _0 = (self)._ff_block(x)"}) {
    CAPTURE(statement);
    CHECK(refusal(statement) == "");
  }
}

TEST_CASE("[core.script_vetting.hostile] T1 to T4: operators by whatever name they are reached") {
  for (const auto& [statement, found] : std::vector<std::pair<std::string, std::string>>{
           {"torch.save(x, \"p\")", "aten::save"},
           {"x = torch.from_file(\"p\", True, 4)", "aten::from_file"},
           {"x = ops.aten.from_file(\"p\")", "aten::from_file"},
           {"x = ops . inductor . _reinterpret_tensor(x, [9], [1], 0)",
            "inductor::_reinterpret_tensor"},
           {"x = ops.mylib.scale(x)", "mylib::scale"},
           {"x = ops.quantized.linear(x)", "quantized::linear"},
           {"ops.prim.PythonOp(x)", "prim::PythonOp"},
           {"ops.prim.FusionGroup(x)", "prim::FusionGroup"},
           {"torch._foreach_add_([x], 1)", "aten::_foreach_add_"},
           {"torch.sparse_csr_tensor(x, x, x)", "aten::sparse_csr_tensor"},
           {"t = torch", "\"torch\" as a value"},
           {"f([ops], x)", "\"ops\" as a value"},
           {"o = ops.inductor", "\"ops\" as a value"},
           {"getattr(torch, \"save\")(x, \"p\")", "the operator \"save\""},
           {"getattr(torch, \"x\")", "\"torch\" as a value"},
           {"getattr(x, \"resize_\")([9])", "\"resize_\""},
           {"getattr(x, \"set\" \"_\")(y)", "the operator"},
           {"getattr(x, \"\\x73et_\")(y)", "the operator"},
           {"g = getattr", "getattr as a value"},
           {"x.set_(y)", "\"set_\""},
           {"x .\tas_strided([9], [1])", "\"as_strided\""},
           {"x._foreach_add_(1)", "\"_foreach_add_\""},
           {"1..save(\"p\")", "\"save\""},
           {"y = 1if torch.save(x, \"p\") else 2", "aten::save"},
           {"y : __torch__.torch.classes.quantized.LinearPackedParamsBase = x",
            "a class that is not its own"},
           {"rpc_async(\"w\", f)", "\"rpc_async\""}}) {
    CAPTURE(statement);
    const std::string message = refusal(statement);
    CHECK(contains(message, "m.pt: code/__torch__.py:3: found "));
    CHECK(contains(message, found));
    CHECK(contains(message, "--trust"));
  }
  CHECK(contains(refusal("x = \"\"\"torch.save\"\"\""), "triple quotes"));
  CHECK(contains(refusal("x = 1  # type: int"), "a type in a comment"));
  CHECK(contains(refusal("x = \"open"), "a string without an end"));
  CHECK(contains(refusal("x = \"open\\"), "a string without an end"));
}

TEST_CASE("[core.script_vetting.hostile] T5: what would overflow the stack of LibTorch's parser") {
  for (const auto& [statement, found] : std::vector<std::pair<std::string, std::string>>{
           {"x = " + repeated("(", 100'000), "brackets nested deeper than 200"},
           {"y : " + repeated("List[", 30'000), "brackets nested deeper than 200"},
           {"x = " + repeated("-", 200'000) + "x", "more than 1000 operators"},
           {"x = " + repeated("not ", 100'000) + "x", "more than 1000 operators"},
           {"x = x" + repeated("+x", 100'000), "more than 1000 operators"},
           {"x = x" + repeated("[0]", 100'000), "more than 1000 operators"},
           {"x = x" + repeated(".y", 100'000), "more than 1000 operators"},
           {"x = " + repeated("x if y else ", 100'000) + "x", "more than 1000 operators"},
           {"if x:\n      pass\n" + repeated("    elif x:\n      pass\n", 100'000), "elif"},
           {repeated(" ", 100'000) + "if x:", "indented by"},
           {"x = )", "a bracket that closes none"}}) {
    const std::string message = refusal(statement);
    CHECK_MESSAGE(contains(message, found), message);
  }
  std::string chain;
  for (int i = 0; i < 5000; ++i)
    chain += "class C" + std::to_string(i) + "(Module):\n  c : __torch__.C" +
             std::to_string(i + 1) + "\n";
  CHECK(contains(refusal_of_files({{"code/__torch__.py", chain}}), "classes within classes"));

  // What is let through, LibTorch compiles.
  Module module("Net");
  module.define("def forward(self, x: Tensor) -> Tensor:\n    y = x" + repeated("+x", 990) +
                "\n    y = " + repeated("-", 990) + "x\n    return " + repeated("(", 190) + "x" +
                repeated(")", 190) + "\n");
  const TemporaryFolder folder;
  save_script(module, folder / "m.pt");
  const at::Tensor x = at::ones({2});
  CHECK(at::equal(load_script(folder / "m.pt").module.forward({x}).toTensor(), x));
}

TEST_CASE("[core.script_vetting.hostile] T10: records that LibTorch would find by another name") {
  const std::string code = "class Net(Module):\n  def f(self):\n    torch.save(1, \"p\")\n";
  for (const char* name : {"Code/__torch__.py", "code/__torch__.PY", "CODE/__torch__.py"})
    CHECK(contains(refusal_of_files({{name, code}}), "found the record"));
  CHECK(contains(refusal_of_files({{"code/__torch__.py", ""}, {"code/__TORCH__.py", ""}}),
                 "expected names that differ in more than case"));
  CHECK(contains(refusal_of_files({{"Data.pkl", ""}}), "found the record"));
  CHECK(contains(refusal_of_files({{"code/__torch__.py.debug_pkl",
                                    "\x80\2)" + repeated("\x85", 100'000) + "."}}),
                 "values nested deeper than 500"));
  CHECK(contains(refusal_of_files({{"model.json", ""}}), "torch before 1.4"));
}

TEST_CASE("[core.script_vetting] no operator that takes a file or a storage is harmless") {
  size_t looked_at = 0;
  for (const auto& op : torch::jit::getAllOperators()) {
    const c10::FunctionSchema& schema = op->schema();
    const c10::Symbol name = c10::Symbol::fromQualString(schema.name());
    if (name.ns().toUnqualString() != std::string("aten")) continue;
    for (const auto& argument : schema.arguments()) {
      const bool reaches = argument.name() == "filename" || argument.type()->str() == "Storage";
      if (!reaches) continue;
      ++looked_at;
      CHECK_FALSE_MESSAGE(is_harmless_operator("aten", name.toUnqualString()), schema);
      CHECK_FALSE_MESSAGE(is_harmless_member(name.toUnqualString()), schema);
    }
  }
  CHECK(looked_at >= 3);
}

}  // namespace vyx
