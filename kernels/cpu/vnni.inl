// The kernels for AVX-VNNI and AVX512-VNNI, which have one instruction under two names: OVGEN_DPBUSD adds to each lane
// four products of an unsigned and a signed byte. With OVGEN_EMULATE_VNNI it is spelled out, for tests elsewhere.
#include "x86.inl"

namespace ovgen {
namespace {

#ifdef OVGEN_EMULATE_VNNI
inline __m256i multiply_add(__m256i sum, __m256i a, __m256i b) {
    alignas(32) uint8_t u[32];
    alignas(32) int8_t s[32];
    alignas(32) int32_t y[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(u), a);
    _mm256_store_si256(reinterpret_cast<__m256i*>(s), b);
    _mm256_store_si256(reinterpret_cast<__m256i*>(y), sum);
    for (int i = 0; i < 32; i++) y[i / 4] += u[i] * s[i];
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(y));
}
#else
inline __m256i multiply_add(__m256i sum, __m256i a, __m256i b) { return OVGEN_DPBUSD(sum, a, b); }
#endif

struct Set : X86 {
    static Ints dot(const Weights<4>& w, const int8_t* a, Ints sum) {
        for (int i = 0; i < 8; i++) sum = multiply_add(sum, w.codes[i], four(a + 4 * i));
        return sum;
    }

    static Ints dot(const Weights<8>& w, const int8_t* a, Ints sum) {
        for (int i = 0; i < 4; i++) {
            sum = multiply_add(sum, w.magnitudes[i], _mm256_sign_epi8(four(a + 4 * i), w.codes[i]));
        }
        return sum;
    }
};

#include "activations.inl"
#include "panels.inl"
#include "codes.inl"

}  // namespace

const Kernels* OVGEN_KERNELS() {
    if (avx2_kernels == nullptr) return nullptr;
    static const Kernels kernels{quantise, multiply, avx2_kernels()->multiply_floats};
    return &kernels;
}

}  // namespace ovgen
