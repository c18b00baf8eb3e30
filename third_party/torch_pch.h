// The headers that cost most to compile, once for all targets (VYX_PCH). No file may rely on them:
// each includes what it uses, and the no-pch preset proves it.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/module.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>
