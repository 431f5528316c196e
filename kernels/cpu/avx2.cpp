// flags: -mavx2 -mfma -mf16c
#include "x86.inl"

namespace ovgen {
namespace {

struct Set : X86 {
    // 15 * 127 * 2 products a lane, eight times: 30480 fits into 16 bits.
    static Ints dot(const Weights<4>& w, const int8_t* a, Ints sum) {
        __m256i even = _mm256_maddubs_epi16(w.codes[0], four(a));
        __m256i odd = _mm256_maddubs_epi16(w.codes[1], four(a + 4));
        for (int i = 2; i < 8; i += 2) {
            even = _mm256_add_epi16(even, _mm256_maddubs_epi16(w.codes[i], four(a + 4 * i)));
            odd = _mm256_add_epi16(odd, _mm256_maddubs_epi16(w.codes[i + 1], four(a + 4 * i + 4)));
        }
        const __m256i ones = _mm256_set1_epi16(1);
        return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(even, odd), ones));
    }

    // Signed times signed is the magnitude times what has the product's sign; 128 * 127 * 2 fits into 16 bits.
    static Ints dot(const Weights<8>& w, const int8_t* a, Ints sum) {
        const __m256i ones = _mm256_set1_epi16(1);
        __m256i parts[4];
        for (int i = 0; i < 4; i++) {
            const __m256i pairs = _mm256_maddubs_epi16(w.magnitudes[i], _mm256_sign_epi8(four(a + 4 * i), w.codes[i]));
            parts[i] = _mm256_madd_epi16(pairs, ones);
        }
        const __m256i halves = _mm256_add_epi32(_mm256_add_epi32(parts[0], parts[1]), _mm256_add_epi32(parts[2], parts[3]));
        return _mm256_add_epi32(sum, halves);
    }
};

#include "activations.inl"
#include "panels.inl"
#include "codes.inl"
#include "floats.inl"

constexpr Kernels kKernels{quantise, multiply, multiply_floats};

}  // namespace

const Kernels* avx2_kernels() { return &kKernels; }

}  // namespace ovgen
