// Vectors of the instruction set that this file is compiled for, by the compiler's own extension.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512BW__)
#define SPK_BYTES 64
#elif defined(__AVX2__)
#define SPK_BYTES 32
#else
#define SPK_BYTES 16
#endif

namespace spikformer {
namespace {

template <class E>
struct VectorOf {
    typedef E type __attribute__((vector_size(SPK_BYTES), may_alias));
    typedef E loose __attribute__((vector_size(SPK_BYTES), may_alias, aligned(alignof(E))));
};
template <class E>
using Vector = typename VectorOf<E>::type;

template <class E>
constexpr int lanes = SPK_BYTES / sizeof(E);

template <class E>
inline Vector<E> load(const E *from) {
    return *reinterpret_cast<const typename VectorOf<E>::loose *>(from);
}

template <class E>
inline void store(E *to, Vector<E> value) {
    *reinterpret_cast<typename VectorOf<E>::loose *>(to) = value;
}

// A vector of E from weights of its own type, or of bytes for int16.
template <class E, class W>
inline Vector<E> widened(const W *from) {
    if constexpr (std::is_same<E, W>::value) {
        return load(from);
    } else {
        // The compiler's own conversion of these takes twice the instructions.
#if defined(__AVX512BW__)
        return (Vector<E>)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)from));
#elif defined(__AVX2__)
        return (Vector<E>)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from));
#else
        typedef int8_t half __attribute__((vector_size(SPK_BYTES / 2), may_alias, aligned(1)));
        return __builtin_convertvector(*reinterpret_cast<const half *>(from), Vector<E>);
#endif
    }
}

inline Vector<float> multiply_add(Vector<float> a, float b, Vector<float> sum) {
#if defined(__AVX512BW__)
    return (Vector<float>)_mm512_fmadd_ps((__m512)a, _mm512_set1_ps(b), (__m512)sum);
#elif defined(__FMA__)
    return (Vector<float>)_mm256_fmadd_ps((__m256)a, _mm256_set1_ps(b), (__m256)sum);
#elif defined(__aarch64__)
    return (Vector<float>)vfmaq_n_f32((float32x4_t)sum, (float32x4_t)a, b);
#else
    return sum + a * b;
#endif
}

inline Vector<float> floats(const float *from) { return load(from); }

inline Vector<float> floats(const int32_t *from) {
    return __builtin_convertvector(load(from), Vector<float>);
}

inline Vector<float> floats(const int16_t *from) {
    typedef int16_t half __attribute__((vector_size(SPK_BYTES / 2), may_alias, aligned(2)));
    return __builtin_convertvector(
        __builtin_convertvector(*reinterpret_cast<const half *>(from), Vector<int32_t>),
        Vector<float>);
}

// One bit for each lane where a >= b.
inline uint32_t at_least(Vector<float> a, Vector<float> b) {
#if defined(__AVX512BW__)
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
#elif defined(__AVX2__)
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GE_OQ));
#elif defined(__aarch64__)
    const uint32x4_t bit = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgeq_f32((float32x4_t)a, (float32x4_t)b), bit));
#else
    uint32_t mask = 0;
    for (int lane = 0; lane < lanes<float>; lane++) mask |= uint32_t(a[lane] >= b[lane]) << lane;
    return mask;
#endif
}

}  // namespace
}  // namespace spikformer
