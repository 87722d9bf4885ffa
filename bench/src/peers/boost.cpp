// Prints the figure that Boost.Interprocess reaches in the workload NAME, in the unit of the benchmark:
// `boost NAME`.

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <new>
#include <sched.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace bip = boost::interprocess;
using Clock = std::chrono::steady_clock;

static double seconds_since(Clock::time_point began) {
    return std::chrono::duration<double>(Clock::now() - began).count();
}

static void ensure(bool good, const char *what) {
    if (!good) {
        std::fprintf(stderr, "%s\n", what);
        std::exit(1);
    }
}

static void pin(int which) {
    cpu_set_t all, one;
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && seen++ == which % CPU_COUNT(&all)) CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

struct Shared {
    bip::interprocess_mutex mutex;
    std::atomic<int> ready{0};
    volatile std::uint64_t counter = 0;

    void meet() {
        ready++;
        while (ready < 2) {}
    }
};

// Runs `there` in another process on another CPU, and `here` in this process. Returns how long both took.
static double beside(const std::function<void(Shared &)> &there, const std::function<void(Shared &)> &here,
                     Shared &shared) {
    pid_t other = fork();
    if (other == 0) {
        pin(1);
        shared.meet();
        there(shared);
        _exit(0);
    }
    pin(0);
    shared.meet();
    auto began = Clock::now();
    here(shared);
    int status;
    waitpid(other, &status, 0);
    ensure(status == 0, "the other process failed");
    return seconds_since(began);
}

// A queue with a name of its own. The destructor removes the queue.
struct Queue {
    std::string name;
    bip::message_queue queue;
    Queue(const char *which, std::size_t room, std::size_t len)
        : name("procession-bench-" + std::to_string(getpid()) + which),
          queue(bip::create_only, name.c_str(), room, len) {}
    ~Queue() { bip::message_queue::remove(name.c_str()); }

    void put(const void *bytes, std::size_t len) { queue.send(bytes, len, 0); }
    void get(void *bytes, std::size_t len) {
        std::size_t got;
        unsigned priority;
        queue.receive(bytes, len, got, priority);
        ensure(got == len, "a message of another length");
    }
};

static double one_way(Shared &shared, std::uint64_t messages, std::size_t len, std::size_t room) {
    Queue queue("", room, len);
    auto produce = [&](Shared &) {
        std::vector<char> bytes(len);
        for (std::uint64_t number = 0; number < messages; number++) {
            std::memcpy(bytes.data(), &number, sizeof number);
            queue.put(bytes.data(), len);
        }
    };
    auto consume = [&](Shared &) {
        std::vector<char> bytes(len);
        for (std::uint64_t number = 0, found; number < messages; number++) {
            queue.get(bytes.data(), len);
            std::memcpy(&found, bytes.data(), sizeof found);
            ensure(found == number, "out of order");
        }
    };
    return messages / beside(produce, consume, shared);
}

static double round_trips(Shared &shared) {
    const std::uint64_t turns = 20'000;
    Queue there("-there", 16, 8), back("-back", 16, 8);
    auto echo = [&](Shared &) {
        for (std::uint64_t turn = 0, got; turn < turns; turn++) {
            there.get(&got, sizeof got);
            back.put(&got, sizeof got);
        }
    };
    auto ask = [&](Shared &) {
        for (std::uint64_t turn = 0, got; turn < turns; turn++) {
            there.put(&turn, sizeof turn);
            back.get(&got, sizeof got);
            ensure(got == turn, "a wrong answer");
        }
    };
    return beside(echo, ask, shared) / turns * 1e9;
}

// Returns the median of batches, on one CPU.
static double free_lock(Shared &shared) {
    pin(0);
    const int batch = 100'000;
    std::vector<double> batches;
    for (int i = 0; i < 25; i++) {
        auto began = Clock::now();
        for (int n = 0; n < batch; n++) {
            shared.mutex.lock();
            shared.mutex.unlock();
        }
        batches.push_back(seconds_since(began) * 1e9 / batch);
    }
    std::sort(batches.begin(), batches.end());
    return batches[12];
}

static double contended(Shared &shared) {
    const std::uint64_t times = 4'000'000;
    auto increment = [&](Shared &shared) {
        for (std::uint64_t n = 0; n < times; n++) {
            shared.mutex.lock();
            shared.counter = shared.counter + 1;
            shared.mutex.unlock();
        }
    };
    double took = beside(increment, increment, shared);
    ensure(shared.counter == 2 * times, "an update was lost");
    return 2 * times / took;
}

int main(int count, char **words) {
    bip::mapped_region memory(bip::anonymous_shared_memory(sizeof(Shared)));
    Shared &shared = *new (memory.get_address()) Shared;
    const std::map<std::string, std::function<double()>> all = {
        {"lock_uncontended", [&] { return free_lock(shared); }},
        {"lock_contended", [&] { return contended(shared); }},
        {"queue_64_bytes", [&] { return one_way(shared, 1'000'000, 64, 1024); }},
        {"queue_1_mib", [&] { return one_way(shared, 2'000, 1 << 20, 4) * (1 << 20) / 1e6; }},
        {"queue_round_trip", [&] { return round_trips(shared); }},
    };
    auto found = all.find(count > 1 ? words[1] : "");
    ensure(found != all.end(), "no such workload");
    std::printf("%.3f\n", found->second());
    return 0;
}
