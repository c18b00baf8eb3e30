// A control vector: a direction at each of some sites, with how it was made.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/hooks/site_pattern.h"
#include "steering/directions/direction.h"

namespace vyx::steering {

struct SiteDirection {
  Site site;
  Direction direction;
};

/// Where a control vector comes from. Empty where a foreign file does not say.
struct Provenance {
  std::string model_name;       // "SmolLM2 135M Instruct"
  std::string model_hint;       // the architecture, as llama.cpp and repeng write it: "llama"
  std::string model_sha256;     // ModelProvenance::sha256
  std::string method;           // Method::name
  std::string position;         // "last": the token whose activation was read
  std::string contrast_source;  // file name of the contrast set
  std::string contrast_sha256;
  int64_t pairs = 0;
  std::string vyx_version;
};

struct ControlVector {
  std::string source;  // the file it was read from, or "", for errors
  Provenance provenance;
  std::vector<SiteDirection> directions;

  int64_t width() const;  // d
};

/// A line for each doubt that there is of its directions (direction.h), with the sites: "sign is a
/// guess at 2 of 29 sites: …".
std::vector<std::string> doubts_of(const ControlVector& vector);

}  // namespace vyx::steering
