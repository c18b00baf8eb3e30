#include "core/hooks/run_frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

namespace vyx {
namespace {

// The kind that libtorch sets aside for programs that run models. Frames of other users have
// another type.
const c10::DebugInfoKind kFrameKind = c10::DebugInfoKind::INFERENCE_CONTEXT;

/// A copy of the current frame, to be changed and put on top.
std::shared_ptr<RunFrame> next_frame() {
  const RunFrame* current = current_frame();
  return current ? std::make_shared<RunFrame>(*current) : std::make_shared<RunFrame>();
}

std::shared_ptr<RunFrame> frame_with(std::shared_ptr<Run> run) {
  auto frame = next_frame();
  frame->run = std::move(run);
  frame->readers = std::exchange(frame->next_readers, {});
  return frame;
}

std::shared_ptr<RunFrame> frame_with(ReaderId reader) {
  auto frame = next_frame();
  frame->next_readers.push_back(reader);
  return frame;
}

std::shared_ptr<RunFrame> frame_with(std::shared_ptr<const ReducedTokenMask> mask) {
  auto frame = next_frame();
  frame->mask = std::move(mask);
  return frame;
}

ReaderId next_reader() {
  static std::atomic<ReaderId> count{0};
  return ++count;
}

}  // namespace

std::runtime_error Run::keep(std::exception_ptr thrown) {
  static std::atomic<uint64_t> count{0};
  std::string token = fmt::format("[vyx: a hook threw, #{}]", ++count);
  const std::lock_guard lock(mutex_);
  thrown_.emplace_back(token, std::move(thrown));
  return std::runtime_error(token);
}

std::exception_ptr Run::kept(std::string_view message) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [token, thrown] : thrown_) {
    if (message.find(token) != std::string_view::npos) return thrown;
  }
  return nullptr;
}

void Run::fired(const HookSlot& slot) {
  const std::lock_guard lock(mutex_);
  // On a thread of the pool nobody would catch the exception, and the run simply goes on to its
  // end.
  if (awaited_.erase(&slot) > 0 && awaited_.empty() && std::this_thread::get_id() == thread_)
    throw HarvestDone();
}

const EditableTokens& ReducedTokenMask::editable(bool generated_only) const {
  Reduction& reduction = generated_only ? generated_ : all_;
  std::call_once(reduction.once, [&] {
    if (generated_only && !mask_.generated.defined()) {
      reduction.tokens = {.any = false, .mask = {}};
      return;
    }
    at::Tensor mask = mask_.real;  // [batch, seq] bool
    if (generated_only) mask = mask.defined() ? mask.logical_and(mask_.generated) : mask_.generated;
    if (!mask.defined()) return;
    reduction.tokens = {.any = mask.any().item<bool>(),
                        .mask = mask.all().item<bool>() ? at::Tensor() : mask};
  });
  return reduction.tokens;
}

const RunFrame* current_frame() {
  return dynamic_cast<const RunFrame*>(c10::ThreadLocalDebugInfo::get(kFrameKind));
}

RunFrameScope::RunFrameScope(std::shared_ptr<Run> run)
    : guard_(kFrameKind, frame_with(std::move(run))) {}

RunFrameScope::RunFrameScope(std::shared_ptr<const ReducedTokenMask> mask)
    : guard_(kFrameKind, frame_with(std::move(mask))) {}

RunFrameScope::RunFrameScope(ReaderId reader) : guard_(kFrameKind, frame_with(reader)) {}

ReaderScope::ReaderScope() : id_(next_reader()), scope_(id_) {}

bool is_read_by(ReaderId reader) {
  const RunFrame* frame = current_frame();
  return frame != nullptr &&
         std::find(frame->readers.begin(), frame->readers.end(), reader) != frame->readers.end();
}

}  // namespace vyx
