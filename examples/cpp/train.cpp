// A training loop in C++ that survives being killed, as examples/c/train.c, with handles that free themselves and
// errors that are exceptions: about forty lines that a trainer can take over as they stand.
//
//   train [STORAGE_PATH [EPOCHS [EPOCH_MS]]]
//
//   STORAGE_PATH  where runs lie; default: $RAYSTORAGE_STORAGE_PATH, else ~/ray_results
//   EPOCHS        default 20
//   EPOCH_MS      an epoch takes at least this long, to leave time for killing it; default 0
//
// Build against an installed copy:
//
//   c++ -std=c++17 train.cpp -o train $(pkg-config --cflags --libs raystorage)

#include <raystorage.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace fs = std::filesystem;

// ------------------------------------------------------------------ raystorage in C++

namespace storage {

template <auto Free>
struct Deleter {
  template <typename Handle>
  void operator()(Handle *handle) const noexcept {
    Free(handle);
  }
};
using Run = std::unique_ptr<raystorage_run, Deleter<raystorage_run_free>>;
using Report = std::unique_ptr<raystorage_report, Deleter<raystorage_report_free>>;
using Operation = std::unique_ptr<raystorage_operation, Deleter<raystorage_operation_free>>;
using Text = std::unique_ptr<char, Deleter<raystorage_string_free>>;

class Error : public std::runtime_error {
 public:
  Error(raystorage_status status, const raystorage_error *error)
      : std::runtime_error(raystorage_error_message(error)), status(status),
        details(raystorage_error_details_json(error)), is_retryable(raystorage_error_is_retryable(error) != 0) {}
  raystorage_status status;
  std::string details;
  bool is_retryable;
};

// Calls a function of the library with its `error` parameter, and throws what it says.
template <typename Function, typename... Arguments>
void call(Function function, Arguments... arguments) {
  raystorage_error *raw = nullptr;
  raystorage_status status = function(arguments..., &raw);
  std::unique_ptr<raystorage_error, Deleter<raystorage_error_free>> error(raw);
  if (status != RAYSTORAGE_OK) throw Error(status, raw);
}

// The same for a function that hands something out through its last parameter but one.
template <typename Owner, typename Function, typename... Arguments>
Owner take(Function function, Arguments... arguments) {
  typename Owner::pointer raw = nullptr;
  call(function, arguments..., &raw);
  return Owner(raw);
}

// Waits for an operation; the JSON document that it yields.
template <typename Function, typename... Arguments>
std::string finish(Function function, Arguments... arguments) {
  auto operation = take<Operation>(function, arguments...);
  call(raystorage_operation_wait, operation.get(), int64_t{-1});
  return take<Text>(raystorage_operation_result, operation.get()).get();
}

// The text behind a key of a document; nothing in `null`. A trainer with a JSON library uses that.
std::optional<std::string> text(const std::string &json, const std::string &key) {
  const std::string pattern = "\"" + key + "\":\"";
  const auto start = json.find(pattern);
  if (start == std::string::npos) return std::nullopt;
  return json.substr(start + pattern.size(), json.find('"', start + pattern.size()) - start - pattern.size());
}

}  // namespace storage

// ------------------------------------------------------------------------- the model

constexpr int features = 4, samples = 512, batch = 32;

struct Data {
  std::array<std::array<double, features>, samples> inputs;
  std::array<bool, samples> labels;

  Data() : inputs(), labels() {
    std::mt19937_64 random(1);
    auto uniform = [&random] { return static_cast<double>(random() >> 11) / 9007199254740992.0 - 0.5; };
    for (int i = 0; i < samples; i++) {
      double score = 0.3;
      for (int k = 0; k < features; k++) score += (inputs[i][k] = uniform()) * (k % 2 != 0 ? -3.0 : 2.0);
      labels[i] = score + uniform() > 0;
    }
  }
};

// Everything that the next step depends on: what a checkpoint must hold.
struct State {
  std::array<double, features + 1> weights{}, velocity{};  // the last one is the bias
  std::mt19937_64 random{42};                               // of the order of the data
  int next_epoch = 0;

  void save(const fs::path &directory) const {
    fs::remove_all(directory);  // of a run that was killed before it reported
    fs::create_directories(directory);
    std::ofstream file(directory / "model.txt");
    file << next_epoch << '\n' << random << '\n' << std::hexfloat;
    for (double number : weights) file << number << ' ';
    for (double number : velocity) file << number << ' ';
    file.close();
    if (!file) throw std::runtime_error("cannot write " + directory.string());
  }

  static State load(const fs::path &directory) {
    State state;
    std::ifstream file(directory / "model.txt");
    file >> state.next_epoch >> state.random;
    auto number = [&file] {
      std::string word;  // operator>> does not read hexadecimal floats
      file >> word;
      return std::strtod(word.c_str(), nullptr);
    };
    std::generate(state.weights.begin(), state.weights.end(), number);
    std::generate(state.velocity.begin(), state.velocity.end(), number);
    if (!file) throw std::runtime_error("cannot read " + directory.string());
    return state;
  }

  double predict(const std::array<double, features> &input) const {
    return 1 / (1 + std::exp(-std::inner_product(input.begin(), input.end(), weights.begin(), weights.back())));
  }

  double train_step(const Data &data, const int *order) {
    std::array<double, features + 1> gradient{};
    double loss = 0;
    for (const int *i = order; i != order + batch; i++) {
      const double p = predict(data.inputs[*i]), error = p - (data.labels[*i] ? 1 : 0);
      for (int k = 0; k < features; k++) gradient[k] += error * data.inputs[*i][k] / batch;
      gradient.back() += error / batch;
      loss -= std::log(data.labels[*i] ? p : 1 - p) / batch;
    }
    for (int k = 0; k <= features; k++) weights[k] += velocity[k] = 0.9 * velocity[k] - 0.3 * gradient[k];
    return loss;
  }

  double accuracy(const Data &data) const {
    int right = 0;
    for (int i = 0; i < samples; i++) right += (predict(data.inputs[i]) > 0.5) == data.labels[i];
    return static_cast<double>(right) / samples;
  }
};

// -------------------------------------------------------------------------- the loop

std::string metrics(const char *format, int epoch, double first, double second) {
  char text[160];
  std::snprintf(text, sizeof text, format, epoch, first, second);
  return text;
}

State resume(raystorage_run *run) {
  const std::string checkpoint = storage::finish(raystorage_run_get_checkpoint_start, run);
  const auto path = storage::text(checkpoint, "path");
  if (!path) {
    std::cout << "a fresh run\n";
    return {};
  }
  // A copy of our own this time, verified byte for byte; examples/c reads in place.
  const fs::path copy = fs::current_path() / "restored";
  fs::remove_all(copy);
  storage::finish(raystorage_checkpoint_download_start, path->c_str(), nullptr, copy.c_str(), int32_t{1});
  State state = State::load(copy);
  fs::remove_all(copy);
  std::cout << "resumed from " << fs::path(*path).filename().string() << ", at epoch " << state.next_epoch << '\n';
  return state;
}

void train(const char *storage_path, int epochs, std::chrono::milliseconds epoch_time) {
  raystorage_run_options run_options = RAYSTORAGE_RUN_OPTIONS_INIT;
  run_options.num_to_keep = 3;
  run_options.checkpoint_score_attribute = "mean_loss";
  run_options.checkpoint_score_order = "min";
  auto run = storage::take<storage::Run>(raystorage_run_open, storage_path, "example-cpp", &run_options);
  std::cout << "run " << raystorage_run_path(run.get()) << '\n';

  const Data data;
  State state = resume(run.get());
  std::vector<int> order(samples);
  storage::Report report;
  while (state.next_epoch < epochs) {
    const auto deadline = std::chrono::steady_clock::now() + epoch_time;
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), state.random);
    double sum = 0;
    for (int step = 0; step < samples / batch; step++) {
      const double loss = state.train_step(data, order.data() + step * batch);
      const auto json = metrics(R"({"epoch":%d,"step":%.0f,"loss":%.17g})", state.next_epoch, step, loss);
      storage::call(raystorage_run_report, run.get(), json.c_str(), nullptr, nullptr, nullptr);
      sum += loss;
    }
    std::this_thread::sleep_until(deadline);

    // Handed over: the directory is moved into the run, not copied, where both are on one file system.
    raystorage_report_options options = RAYSTORAGE_REPORT_OPTIONS_INIT;
    options.delete_local_after_upload = 1;
    const fs::path directory = fs::current_path() / ("epoch-" + std::to_string(state.next_epoch));
    const int epoch = state.next_epoch++;
    state.save(directory);
    const double loss = sum / (samples / batch), accuracy = state.accuracy(data);
    const auto json = metrics(R"({"epoch":%d,"mean_loss":%.17g,"accuracy":%.6f})", epoch, loss, accuracy);
    report = storage::take<storage::Report>(raystorage_run_report, run.get(), json.c_str(), directory.c_str(), &options);
    std::cout << "epoch " << epoch << "  loss " << loss << "  accuracy " << accuracy << std::endl;
  }
  if (report) {
    storage::call(raystorage_report_wait, report.get(), int64_t{60000});
    const auto document = storage::take<storage::Text>(raystorage_report_checkpoint, report.get());
    std::cout << "the last checkpoint is durable: " << storage::text(document.get(), "name").value_or("?") << '\n';
  }
  storage::call(raystorage_run_close, run.get(), int64_t{60000});
  std::cout << "weights" << std::hexfloat;
  for (double weight : state.weights) std::cout << ' ' << weight;
  std::cout << std::defaultfloat << "\naccuracy " << state.accuracy(data) << " after " << epochs << " epochs\n";
}

int main(int count, char **arguments) {
  try {
    if (raystorage_abi_version() != RAYSTORAGE_ABI_VERSION)
      throw std::runtime_error("libraystorage is another version than raystorage.h");
    train(count > 1 ? arguments[1] : nullptr, count > 2 ? std::stoi(arguments[2]) : 20,
          std::chrono::milliseconds(count > 3 ? std::stol(arguments[3]) : 0));
    return 0;
  } catch (const storage::Error &error) {
    std::cerr << error.what() << " (" << raystorage_status_name(error.status) << ") " << error.details << '\n';
  } catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
  }
  return 1;
}
