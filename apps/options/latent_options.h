// --sae, --latent, --when and --without-error: how drivers are told which latents of an autoencoder
// to change.
//
//     --latent 2938=3.5         set to 3.5
//     --latent 2938=3x          set to 3 times its largest activation on training data
//     --latent 2938=+2          add 2; -1.5x takes 1.5 times its largest activation away
//     --latent '2938=*0.5'      scale
//     --latent 2938=clamp:0:4   keep within bounds; the upper may be left out: clamp:1x:
//     --latent 2938=set:-2      set to a value with a sign
//     --when '77>0.5'           change them only at tokens where latent 77 is above 0.5
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "apps/options/driver.h"
#include "core/hooks/site_pattern.h"
#include "models/language_model/language_model.h"
#include "sae/edits/latent_edit.h"

namespace vyx::apps {

/// A number as it is written: "3.5", or "10x", in units of a latent's largest activation.
struct LatentNumber {
  double number = 0;
  bool of_maximum = false;
};

/// I=VALUE taken apart; nullopt where there is no "=VALUE".
struct LatentArgument {
  int64_t latent = 0;
  std::optional<sae::LatentChange::Kind> kind;
  LatentNumber value, low, high;
};
LatentArgument parse_latent(const std::string& text);  // throws UsageError

/// An autoencoder and what is to be done with it, at a site of a model.
struct LatentIntervention {
  Site site;
  sae::Autoencoder autoencoder;
  std::vector<sae::LatentChange> changes;
  sae::LatentEditOptions options;

  Edit edit() const { return sae::edit_latents(autoencoder, changes, options); }
};

struct LatentOptions {
  std::string sae, site, when;
  std::vector<std::string> latents;
  bool without_error = false;

  void add_to(Driver& driver,
              bool with_sae = true);  // `with_sae`: the driver has no --sae of its own
  /// Throws UsageError for what is wrong before anything is read. `needs_values`: --latent I alone
  /// says too little.
  void check(bool needs_values = true) const;
  /// Reads the autoencoder, and the latents' largest activations if any number is a multiple of
  /// them. Latents without a value are set to 0. Throws Error for an autoencoder that was trained
  /// on another model, unless `allow_other_model`.
  LatentIntervention read(models::LanguageModel& model, bool allow_other_model) const;
};

}  // namespace vyx::apps
