// What a thread is running: the run of a HookedModule, and the token mask around it. Frames travel
// with libtorch's thread-local state, so that hooks in a forked branch, and after a wait, find them
// too. Internal to core.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <cstdint>
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

/// Who reads a run (activation_reader.h). No two are alike, so that what is left of an earlier run,
/// a branch that nobody waited for, is never taken for a later one's.
using ReaderId = uint64_t;

struct RunFrame final : c10::DebugInfoBase {
  std::shared_ptr<Run> run;
  std::vector<ReaderId> readers;       // of `run`
  std::vector<ReaderId> next_readers;  // of the runs that start in this frame
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
  friend class ReaderScope;
  explicit RunFrameScope(ReaderId reader);

  c10::DebugInfoGuard guard_;
};

/// A reader of the runs that this thread starts until the end of the scope, but not of those that
/// their hooks start. Scopes nest: each reads.
class ReaderScope {
 public:
  ReaderScope();
  ReaderId id() const { return id_; }

 private:
  const ReaderId id_;
  const RunFrameScope scope_;
};

/// Whether the run that calls this, from a hook, is read by that reader.
bool is_read_by(ReaderId reader);

}  // namespace vyx
