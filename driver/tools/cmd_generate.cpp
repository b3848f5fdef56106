// cx generate: a decoder language model continues a text.
#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "driver/include/cx/error.hpp"
#include "driver/session/language_model.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/tokenizer.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

struct GenerateOptions {
  ChipOptions chip;
  std::string model, precision = "fp32", tokenizer, prompt, reference;
  std::vector<int64_t> prompt_tokens, buckets, stop;
  int64_t tokens = 64, context = 0;
  double temperature = 0;
  uint64_t seed = 0;
  bool greedy = false, timing_only = false, json = false;
};

/// The next token, chosen on the host: the first of the highest scores, or drawn by softmax(scores / temperature).
int64_t choose(const std::vector<float> &scores, double temperature, std::mt19937_64 &random) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i])) throw Error("the score of token " + std::to_string(i) + " is not a number");
    if (scores[i] > scores[best]) best = i;
  }
  if (temperature <= 0) return static_cast<int64_t>(best);
  std::vector<double> shares(scores.size());
  double total = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    shares[i] = std::exp((double{scores[i]} - scores[best]) / temperature);
    total += shares[i];
  }
  // Not std::discrete_distribution: the same seed shall draw the same tokens with every standard library.
  double left = static_cast<double>(random() >> 11) * 0x1p-53 * total;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    left -= shares[i];
    if (left < 0) return static_cast<int64_t>(i);
  }
  return static_cast<int64_t>(best);
}

struct Cost {
  uint64_t steps = 0, tokens = 0, padded = 0, cycles = 0;
  double us = 0, least_us = INFINITY, most_us = 0, launch_us = 0;
  double wall_s = 0;  ///< of this computer, in programs and copies
  uint64_t macs = 0, packets = 0, to_device = 0, to_host = 0, dram_read = 0, dram_written = 0;
  uint64_t cache_moved = 0, cache_move_cycles = 0;
  double cache_move_us = 0, energy_uj = 0;

  void add(const LanguageModel::Step &step, std::size_t fed) {
    const RunReport all = step.total(), moved = step.moved();
    launch_us += all.launch_us;
    macs += all.macs;
    packets += all.counters.packets;
    to_device += all.counters.pcie_to_device;
    to_host += all.counters.pcie_to_host;
    dram_read += all.counters.dram_read;
    dram_written += all.counters.dram_written;
    energy_uj += microjoules(all.energy.total().value);
    wall_s += all.wall_s;
    ++steps;
    tokens += fed;
    padded += static_cast<uint64_t>(step.padded);
    cache_moved += step.moved_bytes();
    cache_move_cycles += moved.cycles;
    cache_move_us += moved.latency_us;
    cycles += all.cycles;
    us += all.latency_us;
    least_us = std::min(least_us, all.latency_us);
    most_us = std::max(most_us, all.latency_us);
  }
  Json json() const {
    return {{"steps", steps},
            {"tokens", tokens},
            {"padded_tokens", padded},
            {"cycles", cycles},
            {"us", us},
            {"launch_us", launch_us},
            {"cache_move_cycles", cache_move_cycles},
            {"cache_move_us", cache_move_us},
            {"energy_uj", energy_uj},
            {"macs", macs},
            {"wall_s", wall_s},
            {"packets", packets},
            {"bytes",
             {{"pcie_to_device", to_device},
              {"pcie_to_host", to_host},
              {"dram_read", dram_read},
              {"dram_written", dram_written},
              {"cache_moved", cache_moved}}}};
  }
};

std::vector<int64_t> load_reference(const std::string &path) {
  std::ifstream file(path);
  const Json json = file ? Json::parse(file, nullptr, false) : Json();
  if (!json.is_array()) throw InputError(path + ": expected a JSON array of token numbers");
  std::vector<int64_t> tokens;
  for (const Json &token : json) {
    if (!token.is_number_integer()) throw InputError(path + ": expected a JSON array of token numbers");
    tokens.push_back(token.get<int64_t>());
  }
  return tokens;
}

std::string numbers(const std::vector<int64_t> &tokens) {
  std::string text;
  for (int64_t token : tokens) text += (text.empty() ? "" : " ") + std::to_string(token);
  return text;
}

int generate(const GenerateOptions &options) {
  const auto begin = std::chrono::steady_clock::now();
  if (options.greedy && options.temperature > 0) throw InputError("--greedy and --temperature exclude each other");
  if (options.temperature < 0) throw InputError("--temperature is negative");
  if (options.tokens < 1) throw InputError("--tokens: expected at least 1");
  if (options.prompt.empty() == options.prompt_tokens.empty()) {
    throw InputError("give --prompt TEXT with --tokenizer FILE, or --prompt-tokens");
  }
  if (!options.prompt.empty() && options.tokenizer.empty()) throw InputError("--prompt needs --tokenizer FILE");
  const std::unique_ptr<Tokenizer> tokenizer = options.tokenizer.empty() ? nullptr : load_tokenizer(options.tokenizer);
  const std::vector<int64_t> prompt =
      options.prompt.empty() ? options.prompt_tokens : tokenizer->encode(options.prompt);
  if (prompt.empty()) throw InputError("the prompt has no tokens");
  if (options.timing_only && !options.reference.empty()) {
    throw UsageError("--timing-only has no results for --reference");
  }
  const std::vector<int64_t> reference =
      options.reference.empty() ? std::vector<int64_t>() : load_reference(options.reference);

  progress("booting the chip");
  const std::unique_ptr<Device> device = options.chip.open();
  LanguageModelOptions how;
  how.session.precision = compiler::precision_from(options.precision);
  how.session.timing_only = options.timing_only;
  how.context = options.context;
  how.buckets = options.buckets;
  LanguageModel model(*device, options.model, how);

  std::mt19937_64 random(options.seed);
  std::vector<int64_t> produced;
  Cost prefill, decode;
  std::vector<int64_t> next = prompt;
  uint64_t compilations_of_prefill = 0;
  while (static_cast<int64_t>(produced.size()) < options.tokens) {
    const LanguageModel::Step step = model.feed(next);
    Cost &cost = produced.empty() ? prefill : decode;
    cost.add(step, next.size());
    if (produced.empty()) compilations_of_prefill = model.session().statistics().compilations;
    // Scores are undefined in timing-only mode; no step's time depends on its tokens.
    const int64_t token = options.timing_only ? 0 : choose(step.logits, options.temperature, random);
    if (tokenizer && token >= tokenizer->size()) {
      throw InputError(fmt::format("{}: the model chose token {}, the tokenizer has {}", options.tokenizer, token,
                                   tokenizer->size()));
    }
    produced.push_back(token);
    if (std::find(options.stop.begin(), options.stop.end(), token) != options.stop.end()) break;
    progress(fmt::format("{} tokens", produced.size()));
    next = {token};
  }
  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  const SessionStatistics statistics = model.session().statistics();
  const double token_us = decode.steps == 0 ? 0 : decode.us / static_cast<double>(decode.steps);
  const bool compared = !options.reference.empty();
  // The reference is the whole sequence, as far as both go.
  std::vector<int64_t> sequence = prompt;
  sequence.insert(sequence.end(), produced.begin(), produced.end());
  std::size_t agreed = 0;
  while (agreed < std::min(reference.size(), sequence.size()) && reference[agreed] == sequence[agreed]) ++agreed;
  const std::size_t comparable = std::min(reference.size(), sequence.size());
  const bool passed = !compared || (agreed == comparable && comparable > prompt.size());
  const std::string text = tokenizer ? tokenizer->decode(produced) : std::string();

  Json json;
  json["model"] = std::filesystem::path(options.model).filename();
  json["config"] = std::filesystem::path(options.chip.config).stem();
  json["precision"] = options.precision;
  json["cache"] = {
      {"style", name_of(model.cache_style())}, {"context", model.context()}, {"bytes_on_device", model.cache_bytes()}};
  json["timing_only"] = options.timing_only;
  json["prompt_tokens"] = prompt;
  json["tokens"] = produced;
  if (tokenizer) json["text"] = text;
  json["sampling"] = {{"where", "host"}, {"temperature", options.temperature}, {"seed", options.seed}};
  json["time_to_first_token_us"] = prefill.us;
  json["time_per_token_us"] = token_us;
  json["tokens_per_s"] = token_us > 0 ? 1e6 / token_us : 0;
  json["prefill"] = prefill.json();
  json["decode"] = decode.json();
  if (decode.steps != 0) {
    json["decode"]["least_us"] = decode.least_us;
    json["decode"]["most_us"] = decode.most_us;
  }
  json["compilations"] = statistics.compilations;
  json["compilations_for_prefill"] = compilations_of_prefill;
  json["program_reuses"] = statistics.cache_hits;
  json["constants"] = {{"bytes_on_device", statistics.constant_bytes},
                       {"bytes_reused", statistics.constant_bytes_reused}};
  json["device_peak_bytes"] = device->memory_stats().peak;
  if (compared) json["check"] = {{"passed", passed}, {"agreeing_tokens", agreed}, {"compared_tokens", comparable}};
  json["compile_s"] = statistics.compile_s;
  json["wall_s"] = wall_s;
  if (options.json) {
    fmt::print("{}\n", json.dump(2));
    return passed ? kDone : kCheckFailed;
  }
  if (tokenizer) {
    fmt::print("{}{}\n\n", options.prompt, text);
  } else {
    fmt::print("{}\n\n", numbers(produced));
  }
  if (compared) {
    fmt::print("{}: {} of {} tokens, {} of them the prompt's, agree with {}\n\n", passed ? "pass" : "FAIL", agreed,
               comparable, prompt.size(), options.reference);
  }
  const auto row = [](const std::string &name, const std::string &value) {
    fmt::print("  {:<40}{:>20}\n", name, value);
  };
  fmt::print("simulated\n");
  row(fmt::format("time to first token ({} in the prompt)", prompt.size()), fmt::format("{:.2f} us", prefill.us));
  if (decode.steps != 0) {
    row("time per token", fmt::format("{:.2f} us", token_us));
    if (decode.cache_move_cycles != 0) {
      row("of it moving entries of the cache",
          fmt::format("{:.2f} us", decode.cache_move_us / static_cast<double>(decode.steps)));
    }
    row("tokens per second", fmt::format("{:.0f}", 1e6 / token_us));
    row("multiply-accumulates per token", grouped(decode.macs / decode.steps));
    row("PCIe bytes per token, in / out",
        grouped(decode.to_device / decode.steps) + " / " + grouped(decode.to_host / decode.steps));
    row("DRAM bytes per token, read / written",
        grouped(decode.dram_read / decode.steps) + " / " + grouped(decode.dram_written / decode.steps));
  }
  fmt::print("\nprograms\n");
  row("compiled / reused", fmt::format("{} / {}", statistics.compilations, statistics.cache_hits));
  row("constants on the device", grouped(statistics.constant_bytes));
  row(fmt::format("cache on the device ({})", name_of(model.cache_style())), grouped(model.cache_bytes()));
  fmt::print("\nthis computer\n");
  row("compiling / all", fmt::format("{:.2f} / {:.2f} s", statistics.compile_s, wall_s));
  fmt::print("\ntokens are chosen on the host\n");
  return passed ? kDone : kCheckFailed;
}

}  // namespace

void add_generate(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App *command = app.add_subcommand("generate", "Continue a text with a decoder language model on the chip");
  command->add_option("model", options->model, "ONNX file")->required();
  options->chip.add_to(*command);
  command->add_option("--precision", options->precision, "fp32, fp16 or bf16")
      ->check(CLI::IsMember({"fp32", "fp16", "bf16"}))
      ->capture_default_str();
  command->add_option("--tokenizer,--charset", options->tokenizer,
                      "JSON array of characters, or a Hugging Face tokenizer.json");
  command->add_option("--prompt", options->prompt, "Text to continue");
  command->add_option("--prompt-tokens", options->prompt_tokens, "The same as token numbers: 3,1,4")->delimiter(',');
  command->add_option("--tokens", options->tokens, "Tokens to produce")->capture_default_str();
  command->add_option("--context", options->context,
                      "Tokens that the model sees or its cache holds, where the model leaves it open");
  command->add_option("--buckets", options->buckets, "Numbers of tokens that programs are made for: 1,16,64")
      ->delimiter(',');
  command->add_option("--stop", options->stop, "Tokens after which to stop")->delimiter(',');
  command->add_flag("--greedy", options->greedy, "Always the token with the highest score (the default)");
  command->add_option("--temperature", options->temperature, "Draw by softmax(scores / temperature); 0: greedy")
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Of the draws")->capture_default_str();
  command->add_option("--reference", options->reference,
                      "JSON array of token numbers, the prompt's first; exit status 1 if the text differs");
  command->add_flag("--timing-only", options->timing_only,
                    "Same time of every step, without arithmetic; all new tokens are 0");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, &invocation] { invocation.action = [options] { return generate(*options); }; });
}

}  // namespace cx::tools
