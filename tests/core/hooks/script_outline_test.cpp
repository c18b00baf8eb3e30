#include "tests/core/hooks/script_fixtures.h"
// torch first
#include "core/hooks/hooked_module.h"
#include "core/hooks/script_archive.h"
#include "core/hooks/script_outline.h"

namespace vyx {
namespace {

using test::contains;
using test::error_of;
using test::Module;
using test::TemporaryFolder;

TEST_CASE("[core.script_outline] what is read off an archive is what the loaded module has") {
  Module shared("Shared");
  const Module part = test::linear(3);
  shared.register_module("a", part);
  shared.register_module("b", part);
  shared.register_buffer("no_parameter", at::zeros({2}));
  shared.register_parameter("last", at::zeros({2, 3}, at::kBFloat16), false);
  shared.define("def forward(self, x: Tensor) -> Tensor:\n    return self.a.forward(x)\n");
  for (const Module& module : {test::stack(), test::linear(1), test::forked(), shared}) {
    const TemporaryFolder folder;
    save_script(module, folder / "m.pt", {{"config.json", "{}"}, {"other", "x"}});
    const ScriptOutline outline = outline_script(folder / "m.pt", {"config.json", "absent"});
    const ScriptArchive archive = load_script(folder / "m.pt");
    CHECK(outline.sites == HookedModule(archive.module).sites());
    CHECK(outline.opaque.empty());
    CHECK(outline.extra_files == std::map<std::string, std::string>{{"config.json", "{}"}});
    size_t i = 0;
    for (const auto& [name, value] : archive.module.named_parameters()) {
      REQUIRE(i < outline.parameters.size());
      CHECK(outline.parameters[i].name == name);
      CHECK(outline.parameters[i].type == c10::toString(value.scalar_type()));
      CHECK(at::IntArrayRef(outline.parameters[i].shape) == value.sizes());
      ++i;
    }
    CHECK(i == outline.parameters.size());
  }
}

TEST_CASE("[core.script_outline] a module that would write a file is read, and does not run") {
  const TemporaryFolder folder;
  Module module = test::writing_when_loaded((folder / "written").string());
  module.register_module("part", test::linear(1));
  save_script(module, folder / "m.pt");
  const ScriptOutline outline = outline_script(folder / "m.pt");
  CHECK(outline.sites == std::vector<std::string>{":input", ":output"});
  CHECK(outline.opaque == std::vector<std::string>{""});  // what its state restores is not known
  CHECK_FALSE(std::filesystem::exists(folder / "written"));
  CHECK(contains(error_of([&] { outline_script(folder / "no.pt"); }), "no.pt"));
}

}  // namespace
}  // namespace vyx
