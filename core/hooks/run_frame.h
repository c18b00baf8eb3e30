// What a thread is running: the run of a HookedModule, and the token mask around it. Frames travel
// with libtorch's thread-local state, so that hooks in a forked branch, and after a wait, find them
// too. Internal to core.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/hooks/token_mask.h"

namespace vyx {

class HookSlot;

/// Thrown by the last tap of a harvest. Not a std::exception: TorchScript's interpreter lets it
/// through as it is.
struct HarvestDone {};

/// One call of HookedModule::run.
class Run {
 public:
  /// `awaited`: the slots after which the run may stop, each called at most once; empty: it runs to
  /// its end.
  explicit Run(std::unordered_set<const HookSlot*> awaited = {}) : awaited_(std::move(awaited)) {}

  /// Keeps what a hook threw, and returns what to throw through the interpreter instead. The
  /// interpreter turns exceptions into text, and hangs when a forked branch throws something that
  /// is not a std::exception.
  std::runtime_error keep(std::exception_ptr thrown);
  /// What keep() kept, when it is what became `message`; else nullptr.
  std::exception_ptr kept(std::string_view message) const;

  /// Called after the hooks of `slot` have run; throws HarvestDone when it was the last one
  /// awaited.
  void fired(const HookSlot& slot);

 private:
  mutable std::mutex mutex_;  // forked branches run at the same time
  std::vector<std::pair<std::string, std::exception_ptr>> thrown_;
  std::unordered_set<const HookSlot*> awaited_;
  const std::thread::id thread_ = std::this_thread::get_id();
};

/// A token mask, reduced once however many edits look at it.
class ReducedTokenMask {
 public:
  explicit ReducedTokenMask(TokenMask mask) : mask_(std::move(mask)) {}
  const TokenMask& mask() const { return mask_; }
  const EditableTokens& editable(bool generated_only) const;

 private:
  struct Reduction {
    std::once_flag once;
    EditableTokens tokens;
  };
  TokenMask mask_;
  mutable Reduction all_, generated_;
};

struct RunFrame final : c10::DebugInfoBase {
  std::shared_ptr<Run> run;
  std::shared_ptr<const Run> outer;  // the run around `run`, of which a hook started it
  std::shared_ptr<const ReducedTokenMask> mask;
};

/// The innermost frame of this thread, or nullptr.
const RunFrame* current_frame();

/// Puts a frame on this thread until the end of the scope.
class RunFrameScope {
 public:
  explicit RunFrameScope(std::shared_ptr<Run> run);
  explicit RunFrameScope(std::shared_ptr<const ReducedTokenMask> mask);

 private:
  c10::DebugInfoGuard guard_;
};

}  // namespace vyx
