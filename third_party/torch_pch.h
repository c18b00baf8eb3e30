// The headers that cost most to compile, once for all targets (VYX_PCH). No file may rely on them: each includes
// what it uses, and the no-pch preset proves it.
#include <fmt/format.h>
#include <torch/script.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>
