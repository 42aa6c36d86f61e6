// A layer by events: lists of them, and the sums of the weight rows that they name.
#pragma once

#include <algorithm>
#include <type_traits>

#include "layer.h"
#include "vectors.h"

namespace spikformer {
namespace {

// An event is the offset in bytes of a weight row within a tile; those of neighbours in an image's
// row follow each other, so that the three columns under a kernel's row are one list. What is
// written behind the last event of a step does not count: there is room for a vector of it.
inline uint32_t *list_bits(uint64_t bits, uint32_t offset, uint32_t row_bytes, uint32_t *event) {
#if defined(__AVX512BW__)
    const __m512i steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i offsets = _mm512_add_epi32(_mm512_mullo_epi32(steps, _mm512_set1_epi32(row_bytes)),
                                       _mm512_set1_epi32(offset));
    for (; bits; bits >>= 16) {
        const __mmask16 mask = static_cast<__mmask16>(bits);
        _mm512_storeu_si512(event, _mm512_maskz_compress_epi32(mask, offsets));
        event += __builtin_popcount(mask);
        offsets = _mm512_add_epi32(offsets, _mm512_set1_epi32(16 * row_bytes));
    }
#else
    for (; bits; bits &= bits - 1) *event++ = offset + __builtin_ctzll(bits) * row_bytes;
#endif
    return event;
}

// Which of 64 counts are above `least`.
inline uint64_t above(const uint8_t *counts, uint8_t least) {
#if defined(__AVX512BW__)
    return _mm512_cmpgt_epu8_mask(_mm512_loadu_si512(counts), _mm512_set1_epi8(least));
#else
    uint64_t bits = 0;
    for (int64_t i = 0; i < 64; i++) bits |= uint64_t(counts[i] > least) << i;
    return bits;
#endif
}

void list(const spk_op &op, int64_t frame, int64_t) {
    const int64_t positions = positions_of(op), words = words_of(op.channels);
    const uint32_t row_bytes = op.tile * (op.arithmetic == SPK_INT16 ? 1 : 4);
    uint32_t *event = op.events + frame * op.events_per_step;
    uint32_t *starts = op.starts + frame * (positions + 1);
    const uint32_t *first = event;
    for (int64_t position = 0; position < positions; position++) {
        starts[position] = static_cast<uint32_t>(event - first);
        const int64_t x = op.kernel == 3 ? position % op.width : 0;
        uint32_t offset = static_cast<uint32_t>(x * op.channels) * row_bytes;
        const int64_t at = (frame * positions + position) * words;
        for (int64_t word = at; word < at + words; word++, offset += 64 * row_bytes) {
            if (op.storage == SPK_SPIKES) {
                event = list_bits(static_cast<const uint64_t *>(op.input)[word], offset, row_bytes,
                                  event);
                continue;
            }
            const uint8_t *counts = static_cast<const uint8_t *>(op.input) + word * 64;
            uint64_t left;
            for (uint8_t least = 0; (left = above(counts, least)); least++)
                event = list_bits(left, offset, row_bytes, event);
        }
    }
    starts[positions] = static_cast<uint32_t>(event - first);
}

// Integer weights have 8 bits, their sums 16.
template <class E>
using Weight = typename std::conditional<std::is_same<E, int16_t>::value, int8_t, E>::type;

// The sums of a tile of columns, in registers.
template <class E, int tile>
struct Sums {
    static constexpr int vectors = tile / lanes<E>;
    Vector<E> part[vectors];

    inline void clear() {
#pragma GCC unroll 16
        for (int i = 0; i < vectors; i++) part[i] = Vector<E>{};
    }

    // Adds the rows of a list, the last of its fours filled up with rows of zeros: to guess how
    // many are left costs a processor more than to add nothing.
    inline void add(uintptr_t rows, const uint32_t *event, const uint32_t *end, uintptr_t zeros) {
        for (; event + 4 <= end; event += 4)
            add_four(rows + event[0], rows + event[1], rows + event[2], rows + event[3]);
        const int64_t left = end - event;
        add_four(left > 0 ? rows + event[0] : zeros, left > 1 ? rows + event[1] : zeros,
                 left > 2 ? rows + event[2] : zeros, zeros);
    }

    // As a tree: the sums wait for one addition, not four.
    inline void add_four(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d) {
#pragma GCC unroll 16
        for (int i = 0; i < vectors; i++) part[i] += (at(a, i) + at(b, i)) + (at(c, i) + at(d, i));
    }

    static inline Vector<E> at(uintptr_t row, int vector) {
        return widened<E>(reinterpret_cast<const Weight<E> *>(row) + vector * lanes<E>);
    }

    inline void write(E *to) const {
#pragma GCC unroll 16
        for (int i = 0; i < vectors; i++) store(to + i * lanes<E>, part[i]);
    }
};

// What is under a row of a kernel: from which position's list to which, and where the weights of
// the first event's image column would begin.
struct Row {
    uintptr_t weights;
    int64_t first, last;
};

template <class E, int tile>
struct Gather {
    const spk_op &op;
    const Where at;
    const int64_t row_bytes = op.channels * tile * int64_t(sizeof(Weight<E>));
    const uintptr_t weights =
        reinterpret_cast<uintptr_t>(op.weights) +
        at.column / tile * (op.kernel * op.kernel * row_bytes + tile * sizeof(Weight<E>));
    const uintptr_t zeros = weights + op.kernel * op.kernel * row_bytes;

    // The kernel's rows over a position that are inside of the image; returns how many.
    inline int rows(int64_t position, Row *found) const {
        if (op.kernel == 1) {
            found[0] = {weights, position, position + 1};
            return 1;
        }
        const int64_t y = position / op.width, x = position % op.width;
        const int64_t left = std::max<int64_t>(x - 1, 0), right = std::min(x + 1, op.width - 1);
        int count = 0;
        for (int64_t dy = -(y > 0); dy <= (y + 1 < op.height); dy++)
            found[count++] = {weights + (3 * (dy + 1) - (x - 1)) * row_bytes,
                              (y + dy) * op.width + left, (y + dy) * op.width + right + 1};
        return count;
    }

    void run() const {
        alignas(64) float rest[tile];
        alignas(64) E sums[tile];
        Row found[3];
        // One image alone reads each row for the first time here, in an order nobody can guess.
        if (op.images == 1)
            for (uintptr_t line = weights; line < zeros; line += 64)
                __builtin_prefetch((void *)line, 0, 2);
        for (int64_t position = at.first; position < at.last; position++) {
            float *potential = potentials(op, at, position, rest);
            const int count = rows(position, found);
            for (int64_t step = 0; step < op.steps; step++) {
                const int64_t frame = at.image * op.steps_in + step;
                const uint32_t *starts = op.starts + frame * (positions_of(op) + 1);
                const uint32_t *events = op.events + frame * op.events_per_step;
                if (std::is_same<E, int16_t>::value) {
                    int64_t many = 0;
                    for (int row = 0; row < count; row++)
                        many += starts[found[row].last] - starts[found[row].first];
                    if (many > op.safe_events) {
                        alignas(64) int32_t wide[tile];
                        in_portions(found, count, starts, events, sums, wide);
                        fire_tile<tile>(op, at, step, position, wide, potential);
                        continue;
                    }
                }
                Sums<E, tile> sum;
                sum.clear();
                for (int row = 0; row < count; row++)
                    sum.add(found[row].weights, events + starts[found[row].first],
                            events + starts[found[row].last], zeros);
                sum.write(sums);
                fire_tile<tile>(op, at, step, position, sums, potential);
            }
        }
    }

    // Too many events for sums of 16 bits: as many at once as they can hold, and wide sums of
    // these.
    void in_portions(const Row *found, int count, const uint32_t *starts, const uint32_t *events,
                     E *sums, int32_t *wide) const {
        std::fill(wide, wide + tile, 0);
        for (int row = 0; row < count; row++)
            for (int64_t event = starts[found[row].first]; event < starts[found[row].last];) {
                const int64_t end =
                    std::min<int64_t>(event + op.safe_events, starts[found[row].last]);
                Sums<E, tile> sum;
                sum.clear();
                sum.add(found[row].weights, events + event, events + end, zeros);
                sum.write(sums);
                for (int column = 0; column < tile; column++)
                    wide[column] += static_cast<int32_t>(sums[column]);
                event = end;
            }
    }
};

template <class E, int tile>
void gather(const spk_op &op, const Where &at) {
    if constexpr (tile >= lanes<E>) Gather<E, tile>{op, at}.run();
}

template <int tile>
struct GatherTile {
    static void run(const spk_op &op, const Where &at) {
        if (op.arithmetic == SPK_FLOAT) gather<float, tile>(op, at);
        else gather<int16_t, tile>(op, at);
    }
};

void gather(const spk_op &op, int64_t item, int64_t) { by_tile<GatherTile>(op, Where(op, item)); }

}  // namespace
}  // namespace spikformer
