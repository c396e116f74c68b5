#pragma once
/// Including this ends the program when one test case hangs, and names that test case.

#include <catch2/catch_test_case_info.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

namespace support {

class watchdog final : public Catch::EventListenerBase {
  public:
    using EventListenerBase::EventListenerBase;

    void testRunStarting(const Catch::TestRunInfo&) override {
        thread_ = std::thread([this] { watch(); });
    }
    void testCaseStarting(const Catch::TestCaseInfo& info) override { set(info.name); }
    void testCaseEnded(const Catch::TestCaseStats&) override { set(""); }
    void testRunEnded(const Catch::TestRunStats&) override {
        {
            std::lock_guard lock(mutex_);
            over_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }

  private:
    /// For one test case. Who asks for many repetitions says so in PLAIT_TEST_PATIENCE, in seconds.
    static std::chrono::seconds longest() {
        const char* text = std::getenv("PLAIT_TEST_PATIENCE");
        const long asked_for = text ? std::atol(text) : 0;
        return std::chrono::seconds(asked_for > 0 ? asked_for : 240);
    }

    void set(const std::string& name) {
        {
            std::lock_guard lock(mutex_);
            name_ = name;
            ++changes_;
        }
        changed_.notify_one();
    }
    void watch() {
        const std::chrono::seconds patience = longest();
        std::unique_lock lock(mutex_);
        while (!over_) {
            const auto seen = changes_;
            const bool changed = changed_.wait_for(lock, patience, [&] { return over_ || changes_ != seen; });
            if (changed || name_.empty()) continue;
            std::fprintf(stderr, "watchdog: \"%s\" hangs\n", name_.c_str());
            std::abort();
        }
    }

    std::thread thread_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::string name_;
    unsigned long changes_ = 0;
    bool over_ = false;
};

} // namespace support

CATCH_REGISTER_LISTENER(support::watchdog)
