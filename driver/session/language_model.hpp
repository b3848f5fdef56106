// A decoder language model on a device: feeds tokens, gives the scores of the next one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "driver/session/session.hpp"

namespace cx {

/// How a model keeps what it knows of earlier tokens. See docs/language-models.md.
enum class CacheStyle {
  none,    ///< it does not: every step runs all tokens of the context
  slots,   ///< inputs past* of fixed capacity; outputs present* are these with entries set at given positions, in place
  append,  ///< inputs past* and outputs present* = past* with the new entries behind them, and an attention mask
};

const char *name_of(CacheStyle style);  ///< "none", "slots", "append"

struct LanguageModelOptions {
  SessionOptions session;  ///< in_place is found by the model
  /// Tokens that a step of a model without cache sees, or that an appending cache holds. 0: as the model declares.
  int64_t context = 0;
  /// Numbers of tokens that programs are made for; a step takes the smallest that is enough and pads. Empty: without
  /// cache the context alone, else powers of two and 1.
  std::vector<int64_t> buckets;
};

/// Inputs are recognised by type and name: integer [1, S] is the tokens (input_ids, tokens, or the only one), the
/// positions (names with "position") or the attention mask (names with "mask"); floats whose names contain "past" are
/// the cache, each with the output that has "present" in its place (past_key_values -> present as well). The scores are
/// the output logits, or the only one that is no cache, float [1, S, vocabulary]. Outlives no device. One thread at a
/// time.
class LanguageModel {
 public:
  /// Throws InputError when inputs and outputs are not as above, naming the one that is not understood, and for an
  /// 8-bit precision without ranges.
  LanguageModel(Device &device, const std::filesystem::path &model, const LanguageModelOptions &options = {});
  LanguageModel(Device &device, const compiler::Model &model, const LanguageModelOptions &options = {});

  CacheStyle cache_style() const { return style_; }
  int64_t context() const { return context_; }           ///< see LanguageModelOptions; of slots, their capacity
  int64_t length() const { return length_; }             ///< tokens fed since reset()
  uint64_t cache_bytes() const { return cache_bytes_; }  ///< on the device
  const Session &session() const { return session_; }

  struct Step {
    std::vector<float> logits;        ///< for the token after the last one fed
    std::vector<RunReport> runs;      ///< one for each program that ran
    std::vector<DeviceCopies> moves;  ///< of new entries of an appending cache to their place, one behind each program
    int64_t padded = 0;               ///< tokens that programs ran beyond those fed
    /// Programs and moves one after the other, without what lies between them.
    RunReport total() const;
    RunReport moved() const;  ///< the moves alone
    uint64_t moved_bytes() const;
  };
  /// Feeds at least one token. Without cache the oldest tokens leave a context that is full; a cache that is full is an
  /// InputError, as is a token below 0.
  Step feed(std::span<const int64_t> tokens);

  /// Forgets all tokens; programs and cache memory stay.
  void reset();

 private:
  struct CacheTensor {
    std::string input, output;
    std::vector<int64_t> shape;  // of the capacity
    int axis = 0;                // along which tokens lie
    DeviceTensor memory;
    std::map<int64_t, DeviceTensor> present;  // of an appending cache, by number of new entries
  };
  void recognise();
  void recognise_cache();
  int64_t bucket_for(int64_t count, int64_t room) const;
  void run_piece(std::span<const int64_t> tokens, int64_t place, int64_t visible, Step &step);
  void move_new_entries(int64_t rows, int64_t count, Step &step);
  std::vector<float> row_of(const HostTensor &logits, int64_t row) const;

  Device &device_;
  LanguageModelOptions options_;
  std::vector<CacheTensor> caches_;
  std::string tokens_, positions_, mask_, logits_;
  CacheStyle style_ = CacheStyle::none;
  int64_t context_ = 0, length_ = 0;
  uint64_t cache_bytes_ = 0;
  std::vector<int64_t> window_;  // without cache: the tokens in the context
  std::vector<compiler::InputInfo> inputs_, outputs_;
  Session session_;
};

}  // namespace cx
