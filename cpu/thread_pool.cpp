#include "thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include "api.h"

namespace splat {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kSpins = 20000;  // under a millisecond: longer than the gap between two loops of one training step

inline void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

thread_local bool inside_loop = false;

// Denormal numbers count as zero inside loops: the Adam moments of Gaussians out of sight decay into them, and some
// processors are a hundred times slower on them. Set on every thread alike, so results do not depend on the thread.
class FlushDenormals {
public:
#if defined(__x86_64__)
    FlushDenormals() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(before_ | 0x8040); }
    ~FlushDenormals() { __builtin_ia32_ldmxcsr(before_); }

private:
    unsigned before_;
#elif defined(__aarch64__)
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" ::"r"(before_ | (1ull << 24)));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

private:
    unsigned long long before_;
#endif
};

struct Job {
    detail::Task task;
    void* context;
    int64_t count, chunk;
    bool fixed;
    int threads;
};

class Pool {
public:
    // As many threads as the machine grants, the caller included, `threads` at most.
    explicit Pool(int threads) {
        try {
            for (; threads_ < threads; ++threads_) std::thread([this, worker = threads_] { serve(worker); }).detach();
        } catch (const std::exception&) {  // no memory, or a limit on threads
        }
    }

    int threads() const { return threads_; }

    // Rethrows the first exception of a body, once no thread works on the job any more.
    void run(Job job) {
        job.threads = threads_;
        job_ = job;
        failed_.store(false, std::memory_order_relaxed);
        next_.store(0, std::memory_order_relaxed);
        running_.store(threads_ - 1, std::memory_order_relaxed);
        {
            std::lock_guard lock(mutex_);
            round_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        work(0);
        for (int spin = 0; running_.load(std::memory_order_acquire) != 0; ++spin) {
            if (spin < kSpins) {
                pause_briefly();
            } else {
                std::unique_lock lock(mutex_);
                done_.wait(lock, [this] { return running_.load(std::memory_order_acquire) == 0; });
            }
        }
        if (failed_.load(std::memory_order_relaxed)) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

    // Ends the threads once they are idle; the object itself is left to them.
    void retire() {
        stop_.store(true, std::memory_order_relaxed);
        run({[](void*, int64_t, int64_t, int) {}, nullptr, 0, 1, true, 0});
    }

private:
    void serve(int worker) {
        FlushDenormals flush;
        uint64_t seen = 0;
        while (true) {
            uint64_t round = seen;
            for (int spin = 0; spin < kSpins && round == seen; ++spin) {
                round = round_.load(std::memory_order_acquire);
                pause_briefly();
            }
            if (round == seen) {
                std::unique_lock lock(mutex_);
                wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
                round = round_.load(std::memory_order_acquire);
            }
            seen = round;
            work(worker);
            const bool stop = stop_.load(std::memory_order_relaxed);
            if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
                std::lock_guard lock(mutex_);
                done_.notify_one();
            }
            if (stop) return;
        }
    }

    void work(int worker) {
        inside_loop = true;
        try {
            take(job_, worker);
        } catch (...) {
            if (!failed_.exchange(true)) failure_ = std::current_exception();
        }
        inside_loop = false;
    }

    void take(const Job& job, int worker) {
        if (job.fixed) {
            for (int64_t begin = worker * job.chunk; begin < job.count; begin += job.threads * job.chunk)
                job.task(job.context, begin, std::min(begin + job.chunk, job.count), worker);
        } else {
            while (true) {
                const int64_t begin = next_.fetch_add(job.chunk, std::memory_order_relaxed);
                if (begin >= job.count) break;
                job.task(job.context, begin, std::min(begin + job.chunk, job.count), worker);
            }
        }
    }

    int threads_ = 1;
    Job job_{};
    alignas(64) std::atomic<int64_t> next_{0};
    alignas(64) std::atomic<int> running_{0};
    alignas(64) std::atomic<uint64_t> round_{0};
    std::atomic<bool> stop_{false}, failed_{false};
    std::exception_ptr failure_;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
};

// One loop at a time; also guards the three below. Never destroyed: threads may still sleep in the pool at exit.
std::mutex* turn = new std::mutex;
Pool* pool = nullptr;
std::atomic<int> wanted{0};
bool fork_handled = false;

// A forked child has only the thread that forked: it starts with a new lock and no pool.
void after_fork_in_child() {
    turn = new std::mutex;
    pool = nullptr;
    inside_loop = false;
}

// The same chunks as with threads, so that sums kept per chunk are the same.
void run_alone(int64_t count, int64_t chunk, detail::Task task, void* context) {
    for (int64_t begin = 0; begin < count; begin += chunk) task(context, begin, std::min(begin + chunk, count), 0);
}

#if defined(__linux__)
bool read_line(const std::string& path, char* line, int size) {
    std::FILE* file = std::fopen(path.c_str(), "r");
    if (!file) return false;
    const bool good = std::fgets(line, size, file) != nullptr;
    std::fclose(file);
    return good;
}

// Cores that a cgroup quota grants, 0 if there is none. Version 2 limits may sit in any parent group.
double cgroup_cores() {
    char line[4096];
    double best = 0;
    auto limit = [&](double quota, double period) {
        if (quota > 0 && period > 0 && (best == 0 || quota / period < best)) best = quota / period;
    };
    std::FILE* groups = std::fopen("/proc/self/cgroup", "r");
    while (groups && std::fgets(line, sizeof line, groups)) {
        line[std::strcspn(line, "\n")] = 0;
        const char* controllers = std::strchr(line, ':');
        const char* folder = controllers ? std::strchr(controllers + 1, ':') : nullptr;
        if (!folder) continue;
        const bool second = std::strncmp(controllers, "::", 2) == 0;
        const std::string names(controllers + 1, folder);
        if (!second && ("," + names + ",").find(",cpu,") == std::string::npos) continue;
        // Inside a container the root of the mount is often this very group, so every parent is tried.
        if (folder[1] != '/') continue;
        for (std::string path = folder[2] ? folder + 1 : "";; path.erase(path.rfind('/'))) {
            char text[256];
            double quota = 0, period = 0;
            if (second) {
                if (read_line("/sys/fs/cgroup" + path + "/cpu.max", text, sizeof text) && std::sscanf(text, "%lf %lf", &quota, &period) == 2)
                    limit(quota, period);
            } else if (read_line("/sys/fs/cgroup/cpu" + path + "/cpu.cfs_quota_us", text, sizeof text)) {
                quota = std::atof(text);
                if (read_line("/sys/fs/cgroup/cpu" + path + "/cpu.cfs_period_us", text, sizeof text)) limit(quota, std::atof(text));
            }
            if (path.empty()) break;
        }
    }
    if (groups) std::fclose(groups);
    return best;
}
#endif

}  // namespace

int usable_cores() {
    int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(1, CPU_COUNT(&set));
    const double granted = cgroup_cores();
    if (granted > 0) cores = std::min(cores, std::max(1, static_cast<int>(granted + 0.999)));
#endif
    return std::min(cores, kMaxThreads);
}

int thread_count() {
    int count = wanted.load(std::memory_order_relaxed);
    if (count == 0) {
        count = usable_cores();
        int unset = 0;
        if (!wanted.compare_exchange_strong(unset, count)) count = unset;
    }
    return count;
}

void set_thread_count(int count) {
    wanted.store(count > 0 ? std::min(count, kMaxThreads) : usable_cores());
}

void detail::run(int64_t count, int64_t chunk, bool fixed, Task task, void* context) {
    chunk = std::max<int64_t>(chunk, 1);
    if (count <= 0) return;
    FlushDenormals flush;
    const bool nested = inside_loop;
    if (nested || count <= chunk || thread_count() == 1) return run_alone(count, chunk, task, context);
    std::lock_guard lock(*turn);
    if (!fork_handled) {
        pthread_atfork(nullptr, nullptr, after_fork_in_child);
        fork_handled = true;
    }
    const int threads = thread_count();
    if (!pool || pool->threads() != threads) {
        if (pool) pool->retire();
        pool = new (std::nothrow) Pool(threads);
        if (pool && pool->threads() < threads) wanted.store(pool->threads());
    }
    if (!pool) return run_alone(count, chunk, task, context);
    pool->run({task, context, count, chunk, fixed, threads});
}

}  // namespace splat

SPLAT_API int splat_thread_count() { return splat::thread_count(); }
SPLAT_API void splat_set_thread_count(int count) { splat::set_thread_count(count); }
SPLAT_API int splat_usable_cores() { return splat::usable_cores(); }
SPLAT_API const char* splat_variant() { return SPLAT_VARIANT; }
