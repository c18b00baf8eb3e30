// Draws of nulls on disk, so that a comparison that was killed goes on where it was.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/compare/road.h"

namespace vyx::compare {

struct Draw {
  std::vector<Arrival> arrivals;
  uint64_t tokens = 0;  // that it ran
};

/// One file, written anew and whole after each draw. Draws of other inputs or options (another
/// `digest`), and a file that cannot be read, are not used: `on_message` is told so in one line,
/// and the file begins anew.
class KeptDraws {
 public:
  KeptDraws() = default;  // keeps nothing on disk
  KeptDraws(std::filesystem::path path, std::string digest,
            const std::function<void(const std::string&)>& on_message);

  const Draw* find(std::string_view null, uint64_t draw) const;  // null: not there
  void add(std::string_view null, uint64_t draw, Draw result);
  size_t size() const { return draws_.size(); }

 private:
  void read(const std::string& text);

  std::filesystem::path path_;  // "": none
  std::string digest_;
  std::map<std::pair<std::string, uint64_t>, Draw> draws_;
};

}  // namespace vyx::compare
