// The kernels, one source for every instruction set: CMake compiles this file once for each.
#include "kernels.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "neuron.h"
#include "vectors.h"

#ifndef SPIKFORMER_SET
#error "name the instruction set: -DSPIKFORMER_SET=portable"
#endif

namespace spikformer {
namespace {

constexpr int max_dense_tile = 64;  // sums of four positions fill the registers

int64_t positions_of(const spk_op &op) { return op.height * op.width; }

// ---- spikes and counts ----------------------------------------------------------------------

template <class Each>
inline void for_each_bit(const uint64_t *words, int64_t begin, int64_t end, const Each &each) {
    for (int64_t word = begin / 64; word * 64 < end; word++) {
        uint64_t bits = words[word];
        if (word == begin / 64) bits &= ~uint64_t(0) << (begin % 64);
        if (end - word * 64 < 64) bits &= ~(~uint64_t(0) << (end - word * 64));
        for (; bits; bits &= bits - 1) each(word * 64 + __builtin_ctzll(bits));
    }
}

// ---- layer, event-driven: lists, then sums of rows --------------------------------------------

int64_t frames(const spk_op &op) { return op.images * op.steps_in; }

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
                event = list_bits(static_cast<const uint64_t *>(op.input)[word], offset, row_bytes, event);
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

template <class E, int tile>
struct Sums {
    static constexpr int vectors = tile / lanes<E>;
    Vector<E> part[vectors];

    inline void clear() {
#pragma GCC unroll 16
        for (int i = 0; i < vectors; i++) part[i] = Vector<E>{};
    }

    // Adds the rows of a list, the last of its fours filled up with rows of zeros: to guess how many
    // are left costs a processor more than to add nothing.
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
        for (int i = 0; i < vectors; i++)
            part[i] += (at(a, i) + at(b, i)) + (at(c, i) + at(d, i));
    }

    static inline Vector<E> at(uintptr_t row, int vector) {
        return widened<E>(reinterpret_cast<const Weight<E> *>(row) + vector * lanes<E>);
    }

    inline void write(E *to) const {
#pragma GCC unroll 16
        for (int i = 0; i < vectors; i++) store(to + i * lanes<E>, part[i]);
    }
};

constexpr int64_t block = 64;  // positions of an item: enough for a tile's weights to stay near

int64_t gather_items(const spk_op &op) {
    return op.images * ceil_div(positions_of(op), block) * ceil_div(op.out_channels, op.tile);
}

// An item of a layer: some positions of an image, and a tile of its output channels.
struct Where {
    int64_t image, first, last, column, words_out;

    Where(const spk_op &op, int64_t item) {
        const int64_t blocks = ceil_div(positions_of(op), block);
        const int64_t tiles = ceil_div(op.out_channels, op.tile);
        first = item % blocks * block;
        last = std::min(first + block, positions_of(op));
        column = item / blocks % tiles * op.tile;
        image = item / blocks / tiles;
        words_out = words_of(op.out_channels);
    }
};

inline float *potentials(const spk_op &op, const Where &at, int64_t position, float *rest) {
    if (op.potential)
        return op.potential + (at.image * positions_of(op) + position) * at.words_out * 64 + at.column;
    std::fill(rest, rest + op.tile, op.neuron.rest);
    return rest;
}

// One step of a tile of neurons, written as the tile's bits.
template <int tile, class Sum>
inline void fire_tile(const spk_op &op, const Where &at, int64_t step, int64_t position,
                      const Sum *sums, float *potential) {
    constexpr int columns = tile < 32 ? tile : 32;
    const int64_t row = (at.image * op.steps + step) * positions_of(op) + position;
    char *out = static_cast<char *>(op.output) + row * at.words_out * 8;
#pragma GCC unroll 4
    for (int first = 0; first < tile; first += columns) {
        const int64_t column = at.column + first, left = op.out_channels - column;
        if (left <= 0) return;
        const float *scales = op.scales ? op.scales + column : nullptr;
        uint32_t bits = fire<columns>(op.neuron, sums + first, scales, op.bias + column, potential + first);
        if (left < columns) bits &= (uint32_t(1) << left) - 1;
        std::memcpy(out + column / 8, &bits, columns / 8);
    }
}

// What is under the rows of a kernel: for each, which list it begins and ends with, and where the
// weight rows begin for it.
struct Row {
    uintptr_t weights;
    int64_t first, last;
};

template <class E, int tile>
struct Gather {
    const spk_op &op;
    const Where at;
    const int64_t row_bytes = op.channels * tile * int64_t(sizeof(Weight<E>));
    const uintptr_t weights = reinterpret_cast<uintptr_t>(op.weights) +
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
        for (int64_t position = at.first; position < at.last; position++) {
            float *potential = potentials(op, at, position, rest);
            const int count = rows(position, found);
            for (int64_t step = 0; step < op.steps; step++) {
                const int64_t frame = at.image * op.steps_in + step;
                const uint32_t *starts = op.starts + frame * (positions_of(op) + 1);
                const uint32_t *events = op.events + frame * op.events_per_step;
                if (std::is_same<E, int16_t>::value) {
                    int64_t many = 0;
                    for (int row = 0; row < count; row++) many += starts[found[row].last] - starts[found[row].first];
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
                    sum.add(found[row].weights, events + starts[found[row].first], events + starts[found[row].last], zeros);
                sum.write(sums);
                fire_tile<tile>(op, at, step, position, sums, potential);
            }
        }
    }

    // Too many events for sums of 16 bits: as many at once as they can hold, and wide sums of these.
    void in_portions(const Row *found, int count, const uint32_t *starts, const uint32_t *events,
                     E *sums, int32_t *wide) const {
        std::fill(wide, wide + tile, 0);
        for (int row = 0; row < count; row++)
            for (int64_t event = starts[found[row].first]; event < starts[found[row].last];) {
                const int64_t end = std::min<int64_t>(event + op.safe_events, starts[found[row].last]);
                Sums<E, tile> sum;
                sum.clear();
                sum.add(found[row].weights, events + event, events + end, zeros);
                sum.write(sums);
                for (int column = 0; column < tile; column++) wide[column] += static_cast<int32_t>(sums[column]);
                event = end;
            }
    }
};

template <class E, int tile>
void gather(const spk_op &op, const Where &at) {
    if constexpr (tile >= lanes<E>) Gather<E, tile>{op, at}.run();
}

template <template <int> class Do>
void by_tile(const spk_op &op, const Where &at) {
    switch (op.tile) {
        case 16: return Do<16>::run(op, at);
        case 32: return Do<32>::run(op, at);
        case 64: return Do<64>::run(op, at);
        case 96: return Do<96>::run(op, at);
        default: return Do<128>::run(op, at);
    }
}

template <int tile>
struct GatherTile {
    static void run(const spk_op &op, const Where &at) {
        if (op.arithmetic == SPK_FLOAT) gather<float, tile>(op, at);
        else gather<int16_t, tile>(op, at);
    }
};

void gather_item(const spk_op &op, int64_t item, int64_t) { by_tile<GatherTile>(op, Where(op, item)); }

// ---- layer, dense: rows with a border, then products -------------------------------------------

// Row elements: padded to fours for dot products of bytes.
int64_t row_elements(const spk_op &op) {
    return op.arithmetic == SPK_DOT8 ? ceil_div(op.channels, 4) * 4 : op.channels;
}

template <class E>
void spread_frame(const spk_op &op, int64_t frame) {
    const int64_t border = op.kernel / 2, across = op.width + 2 * border;
    const int64_t elements = row_elements(op), words = words_of(op.channels);
    E *rows = static_cast<E *>(op.dense) + frame * (op.height + 2 * border) * across * elements;
    std::fill(rows, rows + (op.height + 2 * border) * across * elements, E(0));
    for (int64_t y = 0; y < op.height; y++)
        for (int64_t x = 0; x < op.width; x++) {
            E *row = rows + ((y + border) * across + x + border) * elements;
            const int64_t position = y * op.width + x;
            const int64_t at = frame * positions_of(op) + position;
            if (op.storage == SPK_SPIKES) {
                const uint64_t *bits = static_cast<const uint64_t *>(op.input) + at * words;
                for (int64_t channel = 0; channel < op.channels; channel++)
                    row[channel] = E(bits[channel / 64] >> (channel % 64) & 1);
            } else if (op.storage == SPK_COUNTS) {
                const uint8_t *counts = static_cast<const uint8_t *>(op.input) + at * words * 64;
                for (int64_t channel = 0; channel < op.channels; channel++) row[channel] = E(counts[channel]);
            } else {
                const float *pixels = static_cast<const float *>(op.input) +
                                      frame * op.channels * positions_of(op) + position;
                for (int64_t channel = 0; channel < op.channels; channel++)
                    row[channel] = E(pixels[channel * positions_of(op)]);
            }
        }
}

void spread(const spk_op &op, int64_t frame, int64_t) {
    if (op.arithmetic == SPK_DOT8) return spread_frame<uint8_t>(op, frame);
    spread_frame<float>(op, frame);
}

// Sums of one position and tile over all taps, of float rows and float weights.
template <int tile, int at_once>
inline void products(const spk_op &op, const float *rows, int64_t across, const float *weights,
                     float (*sums)[max_dense_tile]) {
    constexpr int vectors = tile / lanes<float>;
    Vector<float> part[at_once][vectors] = {};
    for (int64_t tap = 0; tap < op.kernel * op.kernel; tap++) {
        const float *row = rows + (tap / op.kernel * across + tap % op.kernel) * op.channels;
        for (int64_t channel = 0; channel < op.channels; channel++, weights += tile)
#pragma GCC unroll 8
            for (int i = 0; i < vectors; i++) {
                const Vector<float> weight = load(weights + i * lanes<float>);
#pragma GCC unroll 8
                for (int p = 0; p < at_once; p++) part[p][i] = multiply_add(weight, row[p * op.channels + channel], part[p][i]);
            }
    }
    for (int p = 0; p < at_once; p++)
        for (int i = 0; i < vectors; i++) store(sums[p] + i * lanes<float>, part[p][i]);
}

// The same of bytes and int8 weights, four channels innermost: exact in int32.
template <int tile, int at_once>
inline void products(const spk_op &op, const uint8_t *rows, int64_t across, const int8_t *weights,
                     int32_t (*sums)[max_dense_tile]) {
    const int64_t elements = row_elements(op);
#if defined(__AVX512VNNI__)
    constexpr int vectors = tile / 16;
    __m512i part[at_once][vectors] = {};
#else
    for (int p = 0; p < at_once; p++) std::fill(sums[p], sums[p] + tile, 0);
#endif
    for (int64_t tap = 0; tap < op.kernel * op.kernel; tap++) {
        const uint8_t *row = rows + (tap / op.kernel * across + tap % op.kernel) * elements;
        for (int64_t channel = 0; channel < elements; channel += 4, weights += 4 * tile) {
#if defined(__AVX512VNNI__)
            __m512i weight[vectors];
#pragma GCC unroll 4
            for (int i = 0; i < vectors; i++) weight[i] = _mm512_loadu_si512(weights + 64 * i);
#pragma GCC unroll 8
            for (int p = 0; p < at_once; p++) {
                int32_t four;
                std::memcpy(&four, row + p * elements + channel, 4);
#pragma GCC unroll 4
                for (int i = 0; i < vectors; i++)
                    part[p][i] = _mm512_dpbusd_epi32(part[p][i], _mm512_set1_epi32(four), weight[i]);
            }
#else
            for (int p = 0; p < at_once; p++)
                for (int column = 0; column < tile; column++)
                    for (int k = 0; k < 4; k++)
                        sums[p][column] += int32_t(row[p * elements + channel + k]) * weights[4 * column + k];
#endif
        }
    }
#if defined(__AVX512VNNI__)
    for (int p = 0; p < at_once; p++)
        for (int i = 0; i < vectors; i++) _mm512_storeu_si512(sums[p] + 16 * i, part[p][i]);
#endif
}

// Products of `at_once` neighbours in an image's row share each load of a weight.
template <class Row, class Weight, class Sum, int tile>
void multiply(const spk_op &op, const Where &at) {
    constexpr int at_once = 4;
    const int64_t border = op.kernel / 2, across = op.width + 2 * border, elements = row_elements(op);
    const int64_t frame_elements = (op.height + 2 * border) * across * elements;
    const Weight *weights = static_cast<const Weight *>(op.weights) +
                            at.column * op.kernel * op.kernel * elements;
    alignas(64) Sum sums[at_once][max_dense_tile];
    alignas(64) float rest[at_once][tile];
    for (int64_t position = at.first; position < at.last;) {
        const int64_t y = position / op.width, x = position % op.width;
        const bool whole = x + at_once <= op.width && position + at_once <= at.last;
        const int64_t together = whole ? at_once : 1;
        float *potential[at_once];
        for (int64_t p = 0; p < together; p++) potential[p] = potentials(op, at, position + p, rest[p]);
        for (int64_t step = 0; step < op.steps; step++) {
            if (step < op.steps_in) {
                const Row *rows = static_cast<const Row *>(op.dense) +
                                  (at.image * op.steps_in + step) * frame_elements + (y * across + x) * elements;
                if (whole) products<tile, at_once>(op, rows, across, weights, sums);
                else products<tile, 1>(op, rows, across, weights, sums);
            }
            for (int64_t p = 0; p < together; p++)
                fire_tile<tile>(op, at, step, position + p, sums[p], potential[p]);
        }
        position += together;
    }
}

template <int tile>
struct MultiplyTile {
    static void run(const spk_op &op, const Where &at) {
        if constexpr (tile <= max_dense_tile) {
            if (op.arithmetic == SPK_DOT8) multiply<uint8_t, int8_t, int32_t, tile>(op, at);
            else multiply<float, float, float, tile>(op, at);
        }
    }
};

void multiply_item(const spk_op &op, int64_t item, int64_t) { by_tile<MultiplyTile>(op, Where(op, item)); }

// ---- pool, residual ------------------------------------------------------------------------------

int64_t frames_out(const spk_op &op) { return op.images * op.steps; }

void pool(const spk_op &op, int64_t frame, int64_t) {
    const int64_t words = words_of(op.channels);
    const int64_t height = (op.height + 1) / 2, width = (op.width + 1) / 2;
    const uint64_t *in = static_cast<const uint64_t *>(op.input) + frame * positions_of(op) * words;
    uint64_t *out = static_cast<uint64_t *>(op.output) + frame * height * width * words;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++, out += words) {
            std::fill(out, out + words, 0);
            for (int64_t iy = std::max<int64_t>(2 * y - 1, 0); iy <= std::min(2 * y + 1, op.height - 1); iy++)
                for (int64_t ix = std::max<int64_t>(2 * x - 1, 0); ix <= std::min(2 * x + 1, op.width - 1); ix++)
                    for (int64_t word = 0; word < words; word++)
                        out[word] |= in[(iy * op.width + ix) * words + word];
        }
}

inline void add_onto(uint8_t *counts, const void *from, int32_t storage, int64_t row, int64_t words) {
    if (storage == SPK_COUNTS) {
        const uint8_t *more = static_cast<const uint8_t *>(from) + row * words * 64;
        for (int64_t i = 0; i < words * 64; i++) counts[i] += more[i];
        return;
    }
    const uint64_t *bits = static_cast<const uint64_t *>(from) + row * words;
    for (int64_t word = 0; word < words; word++) {
#if defined(__AVX512BW__)
        uint8_t *at = counts + word * 64;
        const __m512i old = _mm512_loadu_si512(at);
        _mm512_storeu_si512(at, _mm512_mask_add_epi8(old, bits[word], old, _mm512_set1_epi8(1)));
#else
        for (int64_t byte = 0; byte < 8; byte++) {
            uint64_t eight;
            uint8_t *at = counts + word * 64 + byte * 8;
            std::memcpy(&eight, at, 8);
            for (int64_t bit = 0; bit < 8; bit++)
                eight += (bits[word] >> (byte * 8 + bit) & 1) << (8 * bit);
            std::memcpy(at, &eight, 8);
        }
#endif
    }
}

void add(const spk_op &op, int64_t frame, int64_t) {
    const int64_t words = words_of(op.channels), positions = positions_of(op);
    for (int64_t row = frame * positions; row < (frame + 1) * positions; row++) {
        uint8_t *counts = static_cast<uint8_t *>(op.output) + row * words * 64;
        std::fill(counts, counts + words * 64, uint8_t(0));
        add_onto(counts, op.input, op.storage, row, words);
        add_onto(counts, op.other, op.other_storage, row, words);
    }
}

// ---- attention ------------------------------------------------------------------------------------

// 64 bits from any place on; what is behind `end` is zero.
inline uint64_t bits_from(const uint64_t *words, int64_t at, int64_t end) {
    const int64_t word = at / 64, shift = at % 64;
    uint64_t bits = words[word] >> shift;
    if (shift && word * 64 + 64 < end) bits |= words[word + 1] << (64 - shift);
    return end - at < 64 ? bits & ((uint64_t(1) << (end - at)) - 1) : bits;
}

// A head's bits of all tokens, moved to begin at a word; of Q and K, the OR of neighbouring tokens.
void take_head(const spk_op &op, const uint64_t *frame, int64_t channel, int64_t radius, uint64_t *head) {
    const int64_t tokens = positions_of(op), words = words_of(3 * op.channels);
    const int64_t end = channel + op.channels / op.heads;
    for (int64_t token = 0; token < tokens; token++)
        for (int64_t at = channel; at < end; at += 64, head++) {
            *head = 0;
            for (int64_t near = std::max<int64_t>(token - radius, 0);
                 near <= std::min(token + radius, tokens - 1); near++)
                *head |= bits_from(frame + near * words, at, end);
        }
}

// Heads whose bits share a word are one item, so that no two threads write to it.
int64_t heads_together(const spk_op &op) { return op.channels / op.heads % 64 ? op.heads : 1; }

int64_t attention_items(const spk_op &op) { return op.images * op.heads / heads_together(op); }

int64_t padded(int64_t width) { return ceil_div(width, 16) * 16; }

struct Head {
    int64_t tokens, width, words, row;  // row: a token's sums, padded
    uint64_t *q, *k, *v;
    int32_t *sums, *keys_values;
    float *potential;

    Head(const spk_op &op, int64_t thread) {
        tokens = positions_of(op), width = op.channels / op.heads;
        words = words_of(width), row = padded(width);
        char *at = static_cast<char *>(op.scratch) + thread * op.scratch_bytes;
        sums = reinterpret_cast<int32_t *>(at);
        keys_values = sums + tokens * row;
        potential = reinterpret_cast<float *>(keys_values + width * row);
        q = reinterpret_cast<uint64_t *>(potential + tokens * row);
        k = q + tokens * words, v = k + tokens * words;
    }

    // Adds 1 (or `times`) to a row of sums wherever the token's value fires.
    void add_value(int64_t token, int32_t times, int32_t *to) const {
        for_each_bit(v + token * words, 0, width, [&](int64_t channel) { to[channel] += times; });
    }

    // Q (K^T V): for each key's spike the token's values, for each query's spike that row.
    void keys_first() const {
        std::fill(keys_values, keys_values + width * row, 0);
        std::fill(sums, sums + tokens * row, 0);
        for (int64_t token = 0; token < tokens; token++)
            for_each_bit(k + token * words, 0, width,
                         [&](int64_t channel) { add_value(token, 1, keys_values + channel * row); });
        for (int64_t token = 0; token < tokens; token++)
            for_each_bit(q + token * words, 0, width, [&](int64_t channel) {
                int32_t *to = sums + token * row;
                const int32_t *from = keys_values + channel * row;
                for (int64_t i = 0; i < row; i++) to[i] += from[i];
            });
    }

    // (Q K^T) V: population counts of the ANDs, each times the other token's values.
    void queries_first() const {
        std::fill(sums, sums + tokens * row, 0);
        for (int64_t token = 0; token < tokens; token++)
            for (int64_t other = 0; other < tokens; other++) {
                int32_t common = 0;
                for (int64_t word = 0; word < words; word++)
                    common += __builtin_popcountll(q[token * words + word] & k[other * words + word]);
                if (common) add_value(other, common, sums + token * row);
            }
    }
};

void attend(const spk_op &op, int64_t image, int64_t index, const Head &head) {
    const int64_t words_in = words_of(3 * op.channels), words_out = words_of(op.channels);
    const int64_t at = index * head.width, radius = op.pool / 2;
    float *potential = head.potential;
    if (op.potential) potential = op.potential + (image * op.heads + index) * head.tokens * head.row;
    else std::fill(potential, potential + head.tokens * head.row, op.neuron.rest);
    alignas(64) float scales[lanes<float>];
    std::fill(scales, scales + lanes<float>, op.scale);
    for (int64_t step = 0; step < op.steps; step++) {
        const int64_t frame = image * op.steps + step;
        const uint64_t *in = static_cast<const uint64_t *>(op.input) + frame * head.tokens * words_in;
        take_head(op, in, at, radius, head.q);
        take_head(op, in, op.channels + at, radius, head.k);
        take_head(op, in, 2 * op.channels + at, 0, head.v);
        if (op.keys_first) head.keys_first();
        else head.queries_first();
        for (int64_t token = 0; token < head.tokens; token++) {
            uint64_t *out = static_cast<uint64_t *>(op.output) + (frame * head.tokens + token) * words_out;
            for (int64_t i = 0; i < head.width; i += lanes<float>) {
                uint64_t bits = fire<lanes<float>>(op.neuron, head.sums + token * head.row + i, scales,
                                                   nullptr, potential + token * head.row + i);
                if (head.width - i < lanes<float>) bits &= (uint64_t(1) << (head.width - i)) - 1;
                const int64_t bit = at + i;
                out[bit / 64] |= bits << (bit % 64);
                if (bit % 64 + lanes<float> > 64 && bits >> (64 - bit % 64))
                    out[bit / 64 + 1] |= bits >> (64 - bit % 64);
            }
        }
    }
}

void attention(const spk_op &op, int64_t item, int64_t thread) {
    const int64_t together = heads_together(op), groups = op.heads / together;
    const int64_t image = item / groups, first = item % groups * together;
    const int64_t words = words_of(op.channels), width = op.channels / op.heads;
    const Head head(op, thread);
    for (int64_t row = image * op.steps * head.tokens; row < (image + 1) * op.steps * head.tokens; row++) {
        uint64_t *out = static_cast<uint64_t *>(op.output) + row * words;
        std::fill(out + first * width / 64, out + words_of((first + together) * width), 0);
    }
    for (int64_t index = first; index < first + together; index++) attend(op, image, index, head);
}

// ---- head -----------------------------------------------------------------------------------------

int64_t images_of(const spk_op &op) { return op.images; }

void classify(const spk_op &op, const int32_t *totals, double divisor, float *logits) {
    const float *weights = static_cast<const float *>(op.weights);
    for (int64_t k = 0; k < op.out_channels; k++) {
        double logit = 0;
        for (int64_t channel = 0; channel < op.channels; channel++)
            logit += static_cast<float>(totals[channel] / divisor) * static_cast<double>(weights[k * op.channels + channel]);
        logits[k] = static_cast<float>(logit + op.bias[k]);
    }
}

void head(const spk_op &op, int64_t image, int64_t thread) {
    const int64_t tokens = positions_of(op), words = words_of(op.channels);
    int32_t *whole = reinterpret_cast<int32_t *>(static_cast<char *>(op.scratch) + thread * op.scratch_bytes);
    int32_t *step_sums = whole + op.channels;
    std::fill(whole, whole + op.channels, 0);
    for (int64_t step = 0; step < op.steps; step++) {
        std::fill(step_sums, step_sums + op.channels, 0);
        for (int64_t token = 0; token < tokens; token++) {
            const int64_t row = (image * op.steps + step) * tokens + token;
            if (op.storage == SPK_COUNTS) {
                const uint8_t *counts = static_cast<const uint8_t *>(op.input) + row * words * 64;
                for (int64_t channel = 0; channel < op.channels; channel++) step_sums[channel] += counts[channel];
            } else {
                for_each_bit(static_cast<const uint64_t *>(op.input) + row * words, 0, op.channels,
                             [&](int64_t channel) { step_sums[channel]++; });
            }
        }
        for (int64_t channel = 0; channel < op.channels; channel++) whole[channel] += step_sums[channel];
        classify(op, step_sums, double(tokens),
                 static_cast<float *>(op.steps_output) + (image * op.steps + step) * op.out_channels);
    }
    classify(op, whole, double(tokens) * op.steps, static_cast<float *>(op.output) + image * op.out_channels);
}

}  // namespace

#define SPIKFORMER_TEXT(name) #name
#define SPIKFORMER_NAME(name) SPIKFORMER_TEXT(name)

namespace SPIKFORMER_SET {
extern const Kernels kernels = {
    SPIKFORMER_NAME(SPIKFORMER_SET),
    {frames, list},
    {gather_items, gather_item},
    {frames, spread},
    {gather_items, multiply_item},
    {frames_out, pool},
    {frames_out, add},
    {attention_items, attention},
    {images_of, head},
};
}

}  // namespace spikformer
