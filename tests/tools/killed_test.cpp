#include <chrono>
#include <csignal>
#include <functional>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

#include "tools/support.h"

namespace graft::tools {
namespace {

/// `kill -9` at many moments; what --resume makes of it must be what a run makes that nobody disturbs, bit for bit.
class Killed : public CommandTest {
 protected:
  void SetUp() override {
    make_photos("data", 14, 150, 200);
    save();
  }

  /// Starts `graft finetune ... --out OUT`, kills it as soon as `moment` holds, and says whether it was still running.
  bool kill_when(const std::vector<std::string>& options, const std::string& out,
                 const std::function<bool()>& moment) const {
    std::vector<std::string> words = {GRAFT_COMMAND, "finetune"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--out", out, "--resume", "--checkpoint-every", "0"});
    const std::string error = folder() / ".error";
    std::ofstream(error).close();
    const pid_t child = fork();
    if (child == 0) {
      std::vector<char*> arguments;
      arguments.reserve(words.size() + 1);
      for (std::string& word : words) arguments.push_back(word.data());
      arguments.push_back(nullptr);
      const int output = open(error.c_str(), O_WRONLY | O_APPEND);
      if (chdir(folder().c_str()) != 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0) _exit(126);
      setenv("XDG_CACHE_HOME", ".cache", 1);
      execv(GRAFT_COMMAND, arguments.data());
      _exit(127);
    }
    int status = 0;
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (waitpid(child, &status, WNOHANG) == 0) {
      if (moment() || std::chrono::steady_clock::now() > give_up) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        break;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && std::chrono::steady_clock::now() < give_up;
  }

  std::string shown() const { return read_text(folder() / ".error"); }

  std::ptrdiff_t epochs_in_log(const std::string& out) const {
    const std::string log = read_text(folder() / out / "log.jsonl");
    return std::count(log.begin(), log.end(), '\n');
  }

  /// Whether a file of that name in the run is being written, or was when the run was killed.
  bool is_half_written(const std::string& out, const std::string& name) const {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder() / out, none)) {
      if (entry.path().filename().string().starts_with(name + ".partial-")) return true;
    }
    return false;
  }

  /// Kills runs until one has left a half-written file: between seeing it and the signal it may have been renamed.
  void kill_while_writing(const std::vector<std::string>& options, const std::string& out,
                          const std::string& name) const {
    for (int attempt = 0; attempt < 10; ++attempt) {
      ASSERT_TRUE(kill_when(options, out, [&] { return is_half_written(out, name); })) << name << "\n" << shown();
      if (is_half_written(out, name)) return;
    }
    FAIL() << "no run was killed while it wrote " << name;
  }

  void expect_same_run(const std::vector<std::string>& options, const std::string& killed) const {
    std::string line = "finetune --quiet";
    for (const std::string& option : options) line += " '" + option + "'";
    const Outcome resumed = graft(line + " --resume --out " + killed), whole = graft(line + " --out whole");
    ASSERT_EQ(resumed.code, 0) << resumed.error;
    ASSERT_EQ(whole.code, 0) << whole.error;
    for (const std::string file : {"last.safetensors", "best.safetensors"})
      EXPECT_TRUE(read_text(folder() / killed / file) == read_text(folder() / "whole" / file)) << file;
    EXPECT_EQ(losses(killed), losses("whole"));
    for (const auto& entry : fs::directory_iterator(folder() / killed))
      EXPECT_EQ(entry.path().string().find(".partial-"), std::string::npos) << entry.path();
  }

 private:
  std::vector<nlohmann::json> losses(const std::string& out) const {
    std::vector<nlohmann::json> all;
    std::istringstream log(read_text(folder() / out / "log.jsonl"));
    for (std::string line; std::getline(log, line);) {
      const nlohmann::json epoch = nlohmann::json::parse(line);
      all.push_back({epoch["epoch"], epoch["train"], epoch["validation"]});
    }
    return all;
  }
};

// A head on cached features, with dropout and Adam. Two hidden layers make checkpoints that take a while to write.
TEST_F(Killed, WhileFeaturesAreComputedAndFilesAreWritten) {
  const std::vector<std::string> options = {"--weights", "tiny.safetensors",
                                            "--data",    "data",
                                            "--head",    "256,128",
                                            "--dropout", "0.3",
                                            "--epochs",  "40",
                                            "--batch",   "8",
                                            "--lr",      "1e-4",
                                            "--seed",    "5",
                                            "--threads", "1",
                                            "--workers", "1"};
  const std::string out = "run";
  ASSERT_TRUE(kill_when(options, out, [&] { return shown().find("is computed once") != std::string::npos; }));
  EXPECT_EQ(shown().find("frozen part of"), std::string::npos) << "the features were done already";
  EXPECT_FALSE(exists(out + "/checkpoint.safetensors"));

  ASSERT_TRUE(kill_when(options, out, [&] { return epochs_in_log(out) == 3; })) << shown();
  kill_while_writing(options, out, "checkpoint.safetensors");
  kill_while_writing(options, out, "best.safetensors");
  kill_while_writing(options, out, "run.json");
  ASSERT_TRUE(kill_when(options, out, [&] { return epochs_in_log(out) >= 25; })) << shown();
  expect_same_run(options, out);
}

// Photos that are read and changed anew in every epoch, batch statistics and momentum.
TEST_F(Killed, WhileItTrainsOnAugmentedPhotos) {
  const std::vector<std::string> options = {"--weights",    "tiny.safetensors",
                                            "--data",       "data",
                                            "--train-last", "2",
                                            "--batch-norm", "batch",
                                            "--augment",    "flip,rotate=10",
                                            "--epochs",     "12",
                                            "--batch",      "8",
                                            "--optimizer",  "sgd",
                                            "--momentum",   "0.9",
                                            "--schedule",   "step",
                                            "--lr",         "0.01",
                                            "--seed",       "5",
                                            "--threads",    "1",
                                            "--workers",    "2"};
  const std::string out = "run";
  ASSERT_TRUE(kill_when(options, out, [&] { return exists(out + "/checkpoint.safetensors"); })) << shown();
  ASSERT_TRUE(kill_when(options, out, [&] { return shown().find("resumed after epoch") != std::string::npos; }))
      << shown();
  kill_while_writing(options, out, "checkpoint.safetensors");
  ASSERT_TRUE(kill_when(options, out, [&] { return epochs_in_log(out) >= 9; })) << shown();
  expect_same_run(options, out);
}

// A file of features is reserved whole when it is begun; one that was not finished is never taken for one that was.
TEST_F(Killed, WhileAFileOfFeaturesIsWritten) {
  const std::vector<std::string> options = {
      "--weights", "tiny.safetensors", "--data", "data",           "--head", "8", "--epochs", "6", "--seed",
      "5",         "--threads",        "1",      "--cache-memory", "0"};
  const auto files = [&](const std::string& part) {
    std::error_code none;
    std::ptrdiff_t count = 0;
    for (const auto& entry : fs::directory_iterator(folder() / ".cache/graft/features", none))
      count += entry.path().filename().string().find(part) != std::string::npos;
    return count;
  };
  int attempt = 0;
  for (; attempt < 10 && files(".partial-") == 0; ++attempt)
    ASSERT_TRUE(kill_when(options, "run", [&] { return files(".partial-") > 0; })) << shown();
  ASSERT_LT(attempt, 10) << "no run was killed while it wrote features";
  expect_same_run(options, "run");
  EXPECT_EQ(files(".partial-"), 0);
  EXPECT_EQ(files(".features"), 1);
}

}  // namespace
}  // namespace graft::tools
