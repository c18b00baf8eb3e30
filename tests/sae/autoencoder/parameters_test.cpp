#include "sae/autoencoder/parameters.h"

#include <set>
#include <string>

#include "sae/autoencoder/autoencoder.h"
#include "tests/sae/random_autoencoder.h"
#include "tests/torch_support.h"

using namespace vyx::sae;
using vyx::test::random_autoencoder;

TEST_CASE("[sae.parameters] the list says what each architecture has, and in what shape") {
  for (const Architecture architecture : vyx::test::all_architectures()) {
    CAPTURE(name_of(architecture));
    Autoencoder sae = random_autoencoder(architecture, 5, 7);
    for_each_parameter(
        [&](const ParameterKind& kind, const at::Tensor& tensor) {
          CAPTURE(kind.name);
          CHECK(tensor.defined() == (belongs_to(kind, architecture) && !kind.optional));
          if (tensor.defined())
            CHECK(tensor.sizes() == at::IntArrayRef(shape_of(kind, sae.config)));
        },
        sae.weights);
    validate(sae, "sae");
  }
}

TEST_CASE("[sae.parameters] every member of Parameters is in the list, once") {
  std::set<at::Tensor*> visited;
  Parameters all;
  for_each_parameter(
      [&](const ParameterKind&, at::Tensor& tensor) { CHECK(visited.insert(&tensor).second); },
      all);
  CHECK(visited.size() * sizeof(at::Tensor) == sizeof(Parameters));
}

TEST_CASE("[sae.parameters] several sets are gone over together; what is not there stays so") {
  const Parameters weights = random_autoencoder(Architecture::gated, 5, 7).weights;
  const Parameters doubled =
      transformed(weights, [](const at::Tensor& tensor) { return tensor * 2; });
  for_each_parameter(
      [](const ParameterKind&, const at::Tensor& tensor, const at::Tensor& other) {
        CHECK(tensor.defined() == other.defined());
        if (tensor.defined()) CHECK(other.equal(tensor + tensor));
      },
      weights, doubled);
  std::vector<std::string> names;
  weights.visit([&](const char* name, const at::Tensor&) { names.emplace_back(name); });
  CHECK(names == std::vector<std::string>{"W_enc", "b_enc", "W_dec", "b_dec", "r_mag", "b_mag"});
}
