// What every instruction set's build of the kernels offers; engine.cpp picks one at run time.
#pragma once

#include "engine.h"

namespace spikformer {

// A phase of an operation: independent items, spread over threads.
struct Phase {
    int64_t (*items)(const spk_op &);
    void (*run)(const spk_op &, int64_t item, int64_t thread);
};

struct Kernels {
    const char *name;
    Phase list, gather;      // layer, events: lists of events; their rows added up, neurons
    Phase spread, multiply;  // layer, dense: bordered rows; their products, neurons
    Phase pool, add, attention, head;
};

namespace portable {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace neon {
extern const Kernels kernels;
}

constexpr int64_t words_of(int64_t channels) { return (channels + 63) / 64; }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace spikformer
