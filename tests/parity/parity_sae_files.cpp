// Files of tensors and of autoencoders on a command line, for test_sae_files.py. Arrays are raw
// little-endian float32 files.
#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/formats/tensor_file.h"
#include "core/hooks/script_archive.h"
#include "core/io/files.h"
#include "sae/edits/export.h"
#include "sae/files/autoencoder_file.h"
#include "tests/parity/commands.h"

namespace {

using namespace vyx;
using test::Words;

at::Tensor read_rows(const std::string& path, int64_t width) {
  const std::string bytes = read_text_file(path, 1u << 30);
  at::Tensor rows = at::empty(
      {static_cast<int64_t>(bytes.size() / sizeof(float)) / width, width});  // [rows, width]
  std::memcpy(rows.mutable_data_ptr(), bytes.data(), rows.nbytes());
  return rows;
}

void write_rows(const std::string& path, const at::Tensor& tensor) {
  const at::Tensor rows = tensor.contiguous();
  write_file(path, {static_cast<const char*>(rows.const_data_ptr()), rows.nbytes()});
}

// IN.safetensors OUT.safetensors
Json safetensors(const Words& words) {
  const SafetensorsContent content = read_safetensors(words.at(0));
  write_safetensors(words.at(1), content.tensors, content.metadata);
  return {};
}

// SAE X.f32 F.f32 Y.f32: latents and reconstruction of x
Json run(const Words& words) {
  const sae::Autoencoder autoencoder = sae::load_autoencoder(words.at(0));
  const at::Tensor x = read_rows(words.at(1), autoencoder.config.d_in);
  const at::Tensor f = sae::encode(autoencoder, x);  // [rows, latents]
  write_rows(words.at(2), f);
  write_rows(words.at(3), sae::decode(autoencoder, f, x));
  return sae::name_of(autoencoder.config.architecture);
}

// SAE FORMAT OUT
Json convert(const Words& words) {
  const sae::Autoencoder autoencoder = sae::load_autoencoder(words.at(0));
  if (words.at(1) == "torchscript") {
    save_script(sae::export_script(autoencoder), words.at(2));
  } else {
    sae::save_autoencoder(autoencoder, words.at(2), sae::file_format_from_name(words.at(1)));
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  return vyx::test::run_command({{"safetensors", safetensors}, {"run", run}, {"convert", convert}},
                                argc, argv);
}
