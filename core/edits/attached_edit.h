// An edit as a hook: which tokens it touches, with which coefficients, and how often it did.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>

#include "core/edits/edit.h"
#include "core/hooks/hooked_module.h"

namespace vyx {

enum class Positions { all, generated };  // which real tokens are edited

struct AttachOptions {
  at::Tensor coefficients;  // as Edit::apply takes them
  Positions positions = Positions::all;
};

/// An edit at work in a module; ends with the handle. It counts its firings, because an edit that
/// never fired steers nothing. The handle may be moved; the calls are safe from any thread.
class [[nodiscard]] AttachedEdit {
 public:
  /// How many calls of the site were edited. Calls without a token to edit do not count.
  uint64_t firings() const;
  void set_coefficients(at::Tensor coefficients);
  /// Throws Error naming the site when the edit never fired.
  void require_fired() const;
  const Site& site() const;
  void remove();

 private:
  friend AttachedEdit attach(HookedModule&, const Site&, Edit, AttachOptions);
  friend AttachedEdit attach(HookedModule&, const Site&, std::span<const Edit* const>, Positions);
  struct State;
  static AttachedEdit hooked(HookedModule& module, std::shared_ptr<State> state);

  std::shared_ptr<State> state_;
  HookHandle handle_;
};

/// Edits the activation at `site` in every run from now on; tokens that the current TokenMask calls
/// padding are left alone. Throws Error for a site that the module lacks, or coefficients that are
/// not finite or not the edit's; at run time, naming the site, for an activation or a mask of
/// another shape. The edit moves to the activation's device once.
AttachedEdit attach(HookedModule& module, const Site& site, Edit edit, AttachOptions options = {});

/// Several edits side by side, each as it would be alone: the rows of a batch stand in as many runs
/// of one length as there are edits, and run i gets edit i; null leaves its run as it is.
/// Coefficients are scalars, for all of them. Throws Error, also at run time for rows that are no
/// such runs.
AttachedEdit attach(HookedModule& module, const Site& site, std::span<const Edit* const> edits,
                    Positions positions = Positions::all);

}  // namespace vyx
