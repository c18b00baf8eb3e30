#include "sae/store/streaming_source.h"

#include <ATen/Functions.h>

#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vyx::sae {
namespace {

constexpr uint64_t kGroupOrderStream = 3;  // of random_bits
constexpr int64_t kNormRows = 4096;

}  // namespace

StreamingSource::StreamingSource(std::unique_ptr<models::Harvest> harvest,
                                 const StreamingSourceOptions& options)
    : harvest_(std::move(harvest)), options_(options) {
  if (options.batch < 1 || options.refill_forwards < 1 || options.refill_batches < 1)
    fail("batches of {} rows, {} of them from {} forwards; expected at least 1 each", options.batch,
         options.refill_batches, options.refill_forwards);
  std::vector<std::vector<at::Tensor>> first(harvest_->sites().size());  // [rows, d] per forward
  for (int64_t i = 0, count = 0; i < options.refill_forwards && count < kNormRows; ++i) {
    const std::vector<at::Tensor> rows = next();
    for (size_t s = 0; s < rows.size(); ++s) first[s].push_back(rows[s]);
    count += rows.front().size(0);
  }
  for (size_t s = 0; s < first.size(); ++s) {
    norms_.push_back(norms_of(at::cat(first[s]), harvest_->sites()[s].name()));
    width_ += norms_.back().width;
  }
  harvest_->rewind();
  forwards_ = 0;
}

/// The rows of the next forward, from the beginning again behind the last.
std::vector<at::Tensor> StreamingSource::next() {
  auto rows = harvest_->next();
  if (!rows) {
    harvest_->rewind();
    rows = harvest_->next();
  }
  if (!rows) fail("the input of the harvest has no forward any more; it has changed since");
  ++forwards_;
  return std::move(*rows);
}

void StreamingSource::pass(uint64_t forwards) {
  while (forwards > 0) {
    const uint64_t passed = harvest_->pass(forwards);
    forwards_ += passed;
    forwards -= passed;
    if (forwards > 0) harvest_->rewind();
  }
}

void StreamingSource::fill(uint64_t group) {
  const uint64_t begin = group * static_cast<uint64_t>(options_.refill_forwards);
  if (begin < forwards_) {
    harvest_->rewind();
    forwards_ = 0;
  }
  pass(begin - forwards_);
  buffer_.reset();
  std::vector<at::Tensor> rows;  // [rows, d] per forward
  for (int64_t i = 0; i < options_.refill_forwards; ++i) rows.push_back(at::cat(next(), 1));
  buffer_ = at::cat(rows);
  if (buffer_.size(0) == 0)
    fail("{} forwards of the harvest gave no row to keep", options_.refill_forwards);
  group_ = group;
}

at::Tensor StreamingSource::batch(uint64_t step) {
  const auto batches = static_cast<uint64_t>(options_.refill_batches),
             batch = static_cast<uint64_t>(options_.batch);
  if (const uint64_t group = step / batches; group_ != group) {
    group_.reset();  // until the next is whole
    fill(group);
  }
  const auto count = static_cast<uint64_t>(buffer_.size(0));
  const Permutation order(count, random_bits(options_.seed, kGroupOrderStream, *group_));
  at::Tensor rows = at::empty({options_.batch}, at::kLong);
  auto* row = rows.mutable_data_ptr<int64_t>();
  for (uint64_t i = 0; i < batch; ++i)
    row[i] = static_cast<int64_t>(order((step % batches * batch + i) % count));
  return buffer_.index_select(0, rows);  // [batch, d]
}

uint64_t StreamingSource::rows() const {
  if (forwards_in_pass_ == 0) {
    const Json place = harvest_->cursor();
    harvest_->rewind();
    forwards_in_pass_ = harvest_->pass(std::numeric_limits<uint64_t>::max());
    harvest_->seek(place);
  }
  return forwards_in_pass_ * static_cast<uint64_t>(options_.batch * options_.refill_batches) /
         static_cast<uint64_t>(options_.refill_forwards);
}

Json StreamingSource::provenance() const {
  Json json = harvest_->provenance();
  json["batch"] = options_.batch;
  json["refill_forwards"] = options_.refill_forwards;
  json["refill_batches"] = options_.refill_batches;
  json["seed"] = options_.seed;
  return json;
}

}  // namespace vyx::sae
