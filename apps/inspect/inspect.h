// What is in a file: any that vyx reads or writes.
#pragma once
#include <string>

#include "core/base/json_guard.h"

namespace vyx::apps {

struct Inspection {
  Json json;         // with its "kind"
  std::string text;  // the same for a reader, whole lines
};

/// Recognises the file or folder by its content. Throws Error for what is none of these, and for
/// one that is damaged.
/// `run`: a TorchScript archive is loaded and, if it is a language model, run, which tells the
/// shapes at its sites; otherwise nothing of it runs.
Inspection inspect(const std::string& path, bool run = false);

// Of one kind each.
Inspection inspect_archive(const std::string& path, bool run);  // TorchScript
Inspection inspect_gguf(const std::string& path);               // also a control vector
Inspection inspect_safetensors(const std::string& path);
Inspection inspect_control_vector(const std::string& path);
Inspection inspect_autoencoder(const std::string& path);  // a folder or a file, in any format
Inspection inspect_store(const std::string& path);        // a folder of vyx-harvest

/// The first line of a text, cut after some 60 bytes.
std::string first_words(const std::string& text);

}  // namespace vyx::apps
