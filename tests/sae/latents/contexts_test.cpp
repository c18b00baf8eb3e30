#include "tests/torch_support.h"

#include "sae/latents/contexts.h"

using namespace vyx::sae;
using vyx::models::TokenId;
using vyx::models::TokenPlace;

namespace {

std::vector<TokenPlace> places_of(const std::vector<std::vector<TokenId>>& rows) {
  std::vector<TokenPlace> places;
  for (size_t r = 0; r < rows.size(); ++r)
    for (size_t t = 0; t < rows[r].size(); ++t) places.push_back({r, static_cast<int64_t>(t)});
  return places;
}

}  // namespace

TEST_CASE("[sae.latents.contexts] keep the strongest tokens over several batches, in order") {
  const std::vector<std::vector<TokenId>> rows = {{1, 2, 3}, {4, 5, 6}};
  const auto places = places_of(rows);
  const at::Tensor f = at::tensor({0.0f, 5.0f, 1.0f, 3.0f, 4.0f, 2.0f}).unsqueeze(1) *
                       at::tensor({0.0f, 1.0f, 2.0f});  // [6, 3]
  TopContexts contexts({2, 0, 1}, 3, 2);
  contexts.add(f.narrow(0, 0, 3), std::span(places).first(3), rows);
  contexts.add(f.narrow(0, 3, 3), std::span(places).subspan(3), rows);
  const auto& found = contexts.contexts();
  REQUIRE(found.size() == 3);
  REQUIRE(found[0].size() == 3);
  CHECK(found[0][0].activation == 10);
  CHECK(found[0][0].place.row == 0);
  CHECK(found[0][0].place.position == 1);
  CHECK(found[0][1].activation == 8);
  CHECK(found[0][2].activation == 6);
  CHECK(found[1].empty());  // latent 0 never fires
  CHECK(found[2][2].activation == 3);
}

TEST_CASE("[sae.latents.contexts] a token behind the same tokens is shown once, at its strongest") {
  const std::vector<std::vector<TokenId>> rows = {{1, 2, 3}, {9, 2, 3}, {1, 2, 3}};
  const auto places = places_of(rows);
  const at::Tensor f =
      at::tensor({0.0f, 0.0f, 4.0f, 0.0f, 0.0f, 6.0f, 0.0f, 0.0f, 5.0f}).unsqueeze(1);  // [9, 1]
  TopContexts narrow({0}, 5, 2), wide({0}, 5, 3);
  narrow.add(f, places, rows);
  wide.add(f, places, rows);
  REQUIRE(narrow.contexts()[0].size() == 1);
  CHECK(narrow.contexts()[0][0].activation == 6);
  REQUIRE(wide.contexts()[0].size() == 2);
  CHECK(wide.contexts()[0][1].activation == 5);
}
