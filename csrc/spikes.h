// What all kernels know of activations: how many there are, and which bits are set.
#pragma once

#include "kernels.h"

namespace spikformer {
namespace {

inline int64_t positions_of(const spk_op &op) { return op.height * op.width; }

// Items of phases.
inline int64_t images(const spk_op &op) { return op.images; }
inline int64_t frames_in(const spk_op &op) { return op.images * op.steps_in; }
inline int64_t frames_out(const spk_op &op) { return op.images * op.steps; }

template <class Each>
inline void for_each_bit(const uint64_t *words, int64_t begin, int64_t end, const Each &each) {
    for (int64_t word = begin / 64; word * 64 < end; word++) {
        uint64_t bits = words[word];
        if (word == begin / 64) bits &= ~uint64_t(0) << (begin % 64);
        if (end - word * 64 < 64) bits &= ~(~uint64_t(0) << (end - word * 64));
        for (; bits; bits &= bits - 1) each(word * 64 + __builtin_ctzll(bits));
    }
}

}  // namespace
}  // namespace spikformer
