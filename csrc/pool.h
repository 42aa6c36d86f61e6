// Threads that wait for items: they spin for a moment, since the next phase is usually near, then
// sleep. Each begins with its own part of the items, which is of the same images in every phase, so
// that what it wrote is still in its cache; then it helps the others.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace spikformer {

class Pool {
public:
    explicit Pool(int32_t threads) : parts_(threads) {
        try {
            for (int32_t thread = 1; thread < threads; thread++)
                workers_.emplace_back([this, thread] { work(thread); });
        } catch (...) {
            stop();
            throw;
        }
    }

    ~Pool() { stop(); }

    // Runs `task(item, thread)` for all items, on this thread too; returns when all are done.
    template <class Task>
    void spread(int64_t items, const Task &task) {
        if (workers_.empty() || items <= 1) {
            for (int64_t item = 0; item < items; item++) task(item, 0);
            return;
        }
        task_ = std::cref(task);
        const int64_t threads = static_cast<int64_t>(parts_.size());
        for (int64_t thread = 0; thread < threads; thread++) {
            parts_[thread].next.store(items * thread / threads);
            parts_[thread].end = items * (thread + 1) / threads;
        }
        busy_.store(static_cast<int64_t>(workers_.size()));
        {
            std::lock_guard<std::mutex> lock(mutex_);
            round_.fetch_add(1);
        }
        wake_.notify_all();
        take(0);
        for (int spin = 0; busy_.load(std::memory_order_acquire) > 0; spin += spin < spins) {
            if (spin < spins) pause();
            else std::this_thread::yield();  // someone else has the worker's processor
        }
    }

private:
    static constexpr int spins = 20000;

    void stop() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stopped_ = true;
            round_.fetch_add(1);
        }
        wake_.notify_all();
        for (std::thread &worker : workers_) worker.join();
    }

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        std::this_thread::yield();
#endif
    }

    void take(int64_t thread) {
        for (size_t i = 0; i < parts_.size(); i++) {
            Part &part = parts_[(thread + i) % parts_.size()];
            for (int64_t item; (item = part.next.fetch_add(1)) < part.end;) task_(item, thread);
        }
    }

    void work(int64_t thread) {
        for (uint64_t seen = 0;;) {
            for (int spin = 0; spin < spins && round_.load() == seen; spin++) pause();
            if (round_.load() == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return round_.load() != seen; });
            }
            seen = round_.load();
            if (stopped_) return;
            take(thread);
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    // A thread's items; on a cache line of its own.
    struct alignas(64) Part {
        std::atomic<int64_t> next{0};
        int64_t end = 0;
    };

    std::vector<Part> parts_;
    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::function<void(int64_t, int64_t)> task_;
    std::atomic<uint64_t> round_{0};
    std::atomic<int64_t> busy_{0};
    bool stopped_ = false;
};

}  // namespace spikformer
