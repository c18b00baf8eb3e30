// parity-sae-objective FOLDER: the loss on a case that test_sae_objective.py wrote, as JSON;
// gradients go beside it as grad_NAME.f32.
#include "tests/sae/objectives/raw_case.h"
// torch first
#include <cstdio>

int main(int, char** arguments) {
  using namespace vyx;
  try {
    const std::filesystem::path folder = arguments[1];
    const test::RawCase raw = test::read_case(folder);
    sae::Parameters gradients;
    const sae::ObjectiveResult result =
        loss_and_gradients(raw.sae, raw.input, raw.options, gradients);
    gradients.visit([&](const char* name, const at::Tensor& tensor) {
      write_file((folder / (std::string("grad_") + name + ".f32")).string(),
                 {static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()});
    });
    const Json report = {{"loss", result.loss},
                         {"reconstruction", result.reconstruction},
                         {"sparsity", result.sparsity},
                         {"auxiliary", result.auxiliary},
                         {"l0", result.l0},
                         {"lowest_activation", result.lowest_activation}};
    std::puts(report.dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "parity-sae-objective: %s\n", error.what());
    return 1;
  }
}
