// Runs a plan: picks an instruction set's kernels, and spreads each phase's items over threads.
#include "engine.h"

#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "kernels.h"
#include "pool.h"

namespace spikformer {
namespace {

std::vector<const Kernels *> find_available() {
    std::vector<const Kernels *> found;
#ifdef SPIKFORMER_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni"))
        found.push_back(&avx512::kernels);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("popcnt"))
        found.push_back(&avx2::kernels);
#endif
#ifdef SPIKFORMER_NEON
    found.push_back(&neon::kernels);
#endif
    found.push_back(&portable::kernels);
    return found;
}

// Best first. Never destroyed: a thread may outlive the end of the program.
const std::vector<const Kernels *> &available() {
    static const auto *found = new std::vector<const Kernels *>(find_available());
    return *found;
}

const Kernels *find(const char *name) {
    for (const Kernels *kernels : available())
        if (std::strcmp(kernels->name, name) == 0) return kernels;
    return nullptr;
}

// An operation's phases, one after the other; a second one that has no items is none.
struct Phases {
    Phase first, second;
};

int64_t none(const spk_op &) { return 0; }

Phases phases_of(const spk_op &op, const Kernels &kernels) {
    const Phase nothing{none, nullptr};
    switch (op.kind) {
        case SPK_LAYER:
            if (op.path == SPK_EVENTS) return {kernels.list, kernels.gather};
            return {kernels.spread, kernels.multiply};
        case SPK_POOL: return {kernels.pool, nothing};
        case SPK_ADD: return {kernels.add, nothing};
        case SPK_ATTENTION: return {kernels.attention, nothing};
        default: return {kernels.head, nothing};
    }
}

}  // namespace
}  // namespace spikformer

using namespace spikformer;

struct spk_pool : Pool {
    using Pool::Pool;
};

extern "C" {

int32_t spk_version(void) { return SPK_VERSION; }

int64_t spk_op_bytes(void) { return sizeof(spk_op); }

const char *spk_instruction_sets(void) {
    static const auto *names = new std::string([] {
        std::string joined;
        for (const Kernels *kernels : available())
            joined += (joined.empty() ? "" : " ") + std::string(kernels->name);
        return joined;
    }());
    return names->c_str();
}

spk_pool *spk_pool_new(int32_t threads) try {
    return new spk_pool(threads);
} catch (...) {  // the system has no more threads, or memory
    return nullptr;
}

void spk_pool_free(spk_pool *pool) { delete pool; }

int32_t spk_run(const spk_op *ops, int64_t count, const char *instruction_set, spk_pool *pool,
                double *seconds) {
    const Kernels *kernels = find(instruction_set);
    if (!kernels) return -1;
    for (int64_t i = 0; i < count; i++) {
        const spk_op &op = ops[i];
        const auto start = std::chrono::steady_clock::now();
        const Phases phases = phases_of(op, *kernels);
        for (const Phase &phase : {phases.first, phases.second})
            pool->spread(phase.items(op),
                         [&](int64_t item, int64_t thread) { phase.run(op, item, thread); });
        if (seconds)
            seconds[i] +=
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    return 0;
}
}
