// What AVX2 and its successors have in common: all but how products of bytes are added up.

#include <immintrin.h>

#include <cstring>

#include "kernels.h"

namespace ovgen {
namespace {

inline __m256i bytes(const uint8_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }

// Four codes of a token in every lane.
inline __m256i four(const int8_t* a) {
    float bits;
    std::memcpy(&bits, a, 4);
    return _mm256_castps_si256(_mm256_set1_ps(bits));
}

inline void fetch(const uint8_t* at) {  // 128 bytes, some time before they are needed
    constexpr int64_t ahead = 2048;
    _mm_prefetch(reinterpret_cast<const char*>(at + ahead), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(at + ahead + 64), _MM_HINT_T0);
}

struct X86 {
    using Ints = __m256i;
    using Floats = __m256;
    template <int Bits>
    struct Weights;

    static Ints no_ints() { return _mm256_setzero_si256(); }
    static Floats floats(float value) { return _mm256_set1_ps(value); }
    static Floats floats(Ints values) { return _mm256_cvtepi32_ps(values); }
    static Floats halves(const uint16_t* at) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    }
    static Floats lower_brain_halves(const uint8_t* at) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(bytes(at), 16));
    }
    static Floats upper_brain_halves(const uint8_t* at) {
        return _mm256_castsi256_ps(_mm256_and_si256(bytes(at), _mm256_set1_epi32(0xffff0000)));
    }
    static Floats singles(const float* at) { return _mm256_loadu_ps(at); }
    static Floats sum(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static Floats product(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
    static Floats add_product(Floats y, Floats a, Floats b) { return _mm256_fmadd_ps(a, b, y); }
    static Floats subtract_product(Floats y, Floats a, Floats b) { return _mm256_fnmadd_ps(a, b, y); }
    static void store(float* at, Floats values) { _mm256_storeu_ps(at, values); }

    static Ints larger_magnitudes(Ints tops, const float* x) {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
        return _mm256_max_epi32(tops, _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
    }
    static int32_t largest(Ints values) {
        __m128i y = _mm_max_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
        y = _mm_max_epi32(y, _mm_shuffle_epi32(y, 0x4e));
        return _mm_cvtsi128_si32(_mm_max_epi32(y, _mm_shuffle_epi32(y, 0xb1)));
    }
    static int32_t total(Ints values) {
        __m128i y = _mm_add_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
        y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4e));
        return _mm_cvtsi128_si32(_mm_add_epi32(y, _mm_shuffle_epi32(y, 0xb1)));
    }
    static Ints quantise_block(const float* x, float inverse, int8_t* codes, Ints totals) {
        const __m256 factor = _mm256_set1_ps(inverse);
        __m256i parts[4];
        for (int i = 0; i < 4; i++) {
            parts[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), factor));
            totals = _mm256_add_epi32(totals, parts[i]);
        }
        const __m256i low = _mm256_packs_epi32(parts[0], parts[1]), high = _mm256_packs_epi32(parts[2], parts[3]);
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing works within halves
        const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), packed);
        return totals;
    }
};

// A block of 4-bit codes, taken apart: 32 columns of eight rows.
template <>
struct X86::Weights<4> {
    static constexpr int64_t kColumns = 32;
    explicit Weights(const uint8_t* at) {
        const __m256i mask = _mm256_set1_epi8(15);
        for (int unit = 0; unit < 4; unit++) {
            const __m256i both = bytes(at + unit * 32);
            codes[2 * unit] = _mm256_and_si256(both, mask);
            codes[2 * unit + 1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
        }
        fetch(at);
    }
    __m256i codes[8];
};

// Half a block of 8-bit codes, and their magnitudes.
template <>
struct X86::Weights<8> {
    static constexpr int64_t kColumns = 16;
    explicit Weights(const uint8_t* at) {
        for (int unit = 0; unit < 4; unit++) {
            codes[unit] = bytes(at + unit * 32);
            magnitudes[unit] = _mm256_abs_epi8(codes[unit]);  // -128 becomes 128: they are taken as unsigned
        }
        fetch(at);
    }
    __m256i codes[4], magnitudes[4];
};

}  // namespace
}  // namespace ovgen
