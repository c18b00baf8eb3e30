// Operators on tensors, each written once with both of its meanings: TorchScript, and what C++
// computes. A function over them is a template on how they run: with Compute it gives tensors, with
// Script it writes the body of a TorchScript method. So what an exported module runs is what C++
// runs, bit for bit (edit_kernel.h).
#pragma once
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace vyx {

template <class Function>
struct Operator {
  const char* text;  // {0}, {1}, …: the arguments
  Function compute;
};

// What may be missing is an undefined tensor here and None there.
namespace op {

inline constexpr Operator plus{
    "{} + {}", [](const at::Tensor& a, const at::Tensor& b) -> at::Tensor { return a + b; }};
inline constexpr Operator times{
    "{} * {}", [](const at::Tensor& a, const at::Tensor& b) -> at::Tensor { return a * b; }};
inline constexpr Operator plus_if{
    "{0} + {1} if {1} is not None else {0}",
    [](const at::Tensor& a, const at::Tensor& b) -> at::Tensor { return b.defined() ? a + b : a; }};
inline constexpr Operator times_if{
    "{0} * {1} if {1} is not None else {0}",
    [](const at::Tensor& a, const at::Tensor& b) -> at::Tensor { return b.defined() ? a * b : a; }};
inline constexpr Operator relu{"torch.relu({})",
                               [](const at::Tensor& a) -> at::Tensor { return at::relu(a); }};
/// 1 where a > b, in the type of `like`.
inline constexpr Operator above{
    "torch.gt({0}, {1}).to({2}.dtype)",
    [](const at::Tensor& a, const auto& b, const at::Tensor& like) -> at::Tensor {
      return at::gt(a, b).to(like.scalar_type());
    }};
inline constexpr Operator in_type_of{"{0}.to({1}.dtype)",
                                     [](const at::Tensor& a, const at::Tensor& like) -> at::Tensor {
                                       return a.to(like.scalar_type());
                                     }};
inline constexpr Operator linear{
    "torch.linear({}, {}, {})",
    [](const at::Tensor& a, const at::Tensor& rows, const at::Tensor& biases) -> at::Tensor {
      return at::linear(a, rows, biases);
    }};
inline constexpr Operator matmul{
    "torch.matmul({}, {})",
    [](const at::Tensor& a, const at::Tensor& b) -> at::Tensor { return at::matmul(a, b); }};
/// a[i], of the first dimension.
inline constexpr Operator row{"{}[{}]",
                              [](const at::Tensor& a, int64_t i) -> at::Tensor { return a[i]; }};
/// The first n, and those of the given indices, of the last dimension.
inline constexpr Operator first_columns{
    "torch.narrow({}, -1, 0, {})",
    [](const at::Tensor& a, int64_t n) -> at::Tensor { return a.narrow(-1, 0, n); }};
inline constexpr Operator columns{"torch.index_select({}, -1, {})",
                                  [](const at::Tensor& a, const at::Tensor& indices) -> at::Tensor {
                                    return a.index_select(-1, indices);
                                  }};
/// Σ_i weights_i · rows_i.
inline constexpr Operator weighted_sum{
    "torch.sum({} * torch.unsqueeze({}, 1), [0])",
    [](const at::Tensor& rows, const at::Tensor& weights) -> at::Tensor {
      return at::sum(rows * weights.unsqueeze(1), 0);
    }};
/// x + c · v in x's type; x itself where there is no v.
inline constexpr Operator moved{
    "{0} + ({1} * {2}).to({0}.dtype) if {1} is not None else {0}",
    [](const at::Tensor& x, const at::Tensor& v, const auto& c) -> at::Tensor {
      return v.defined() ? x + (v * c).to(x.scalar_type()) : x;
    }};

}  // namespace op

/// Runs operators as they come.
struct Compute {
  using Value = at::Tensor;
  static at::Tensor none() { return {}; }
  static bool is_none(const at::Tensor& value) { return !value.defined(); }

  template <class Function, class... Arguments>
  at::Tensor operator()(const Operator<Function>& operation, const Arguments&... arguments) const {
    return operation.compute(arguments...);
  }
  /// A tensor that the function has by that name.
  const at::Tensor& attribute(const char*, const at::Tensor& tensor) const { return tensor; }
  /// True where the function is to return here, because c is 0.
  static bool returns_at_zero(double c, const at::Tensor&) { return c == 0; }
  static bool returns_at_zero(const at::Tensor&, const at::Tensor&) { return false; }
};

/// Writes each operator as a line that gives its result a name.
class Script {
 public:
  using Value = std::string;  // a name
  static std::string none() { return "None"; }
  static bool is_none(const std::string& value) { return value == "None"; }

  /// `name_of` gives the names that attributes have in the module.
  explicit Script(std::function<std::string(const char*)> name_of) : name_of_(std::move(name_of)) {}

  template <class Function, class... Arguments>
  std::string operator()(const Operator<Function>& operation, const Arguments&... arguments) {
    std::string result = name();
    line(fmt::format("{} = {}", result, fmt::format(fmt::runtime(operation.text), arguments...)));
    return result;
  }
  std::string attribute(const char* name, const at::Tensor& tensor) {
    attributes_.emplace_back(name_of_(name), tensor);
    return "self." + attributes_.back().first;
  }
  bool returns_at_zero(const std::string& c, const std::string& x) {
    line(fmt::format("if {} == 0.0:", c));
    line("    return " + x);
    return false;
  }

  std::string submodule(const char* name, const torch::jit::Module& module) {
    submodules_.emplace_back(name_of_(name), module);
    return "self." + submodules_.back().first;
  }

  std::string name() { return fmt::format("t{}", names_++); }
  void line(const std::string& text) { body_ += "    " + text + "\n"; }

  const std::string& body() const { return body_; }
  /// What the module is to have, by name; one may come twice.
  const std::vector<std::pair<std::string, at::Tensor>>& attributes() const { return attributes_; }
  const std::vector<std::pair<std::string, torch::jit::Module>>& submodules() const {
    return submodules_;
  }

 private:
  std::function<std::string(const char*)> name_of_;
  std::string body_;
  std::vector<std::pair<std::string, at::Tensor>> attributes_;
  std::vector<std::pair<std::string, torch::jit::Module>> submodules_;
  int names_ = 0;
};

}  // namespace vyx
